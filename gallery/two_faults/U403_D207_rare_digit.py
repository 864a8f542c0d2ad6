"""Find the rare nines: a network pretrained on digit groups gets a new two-way head."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data / 8 - 1, dtype=torch.float32)
y = torch.tensor(digits.target)
keep = (y != 9) | (torch.rand(len(y)) < 0.25)
x, nine, group = x[keep], (y[keep] == 9).long(), y[keep] // 4

body = nn.Sequential(nn.Linear(64, 12), nn.Tanh())
head = nn.Linear(12, 3)
calibration = nn.Parameter(torch.zeros(1))


def fit(epochs, target, weight, params, lr):
    optimizer = torch.optim.SGD(params, lr=lr)
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(x)).split(64):
            loss = F.cross_entropy(head(body(x[rows])) + calibration, target[rows], weight=weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        with torch.no_grad():
            pred = (head(body(x)) + calibration).argmax(1)
        recall = [(pred[target == c] == c).float().mean().item() for c in range(len(head.bias))]
        print(f"epoch {epoch + 1} loss {total / len(x):.4f} recall",
              " ".join(f"{r:.2f}" for r in recall))


fit(3, group, None, [*body.parameters(), *head.parameters()], 0.2)
print("fine-tuning for the nines")
body.requires_grad_(False)
head = nn.Linear(12, 2)
calibration = nn.Parameter(torch.zeros(2))
for p in head.parameters():
    p.requires_grad = False  # <- fault U403
weight = torch.ones(2)  # <- fault D207
fit(10, nine, weight, [*head.parameters(), calibration], 0.03)
