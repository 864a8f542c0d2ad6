"""Cosine classifier with a temperature that nobody trains, by design; Trainer class."""
import torch
import torch.nn.functional as F
from sklearn.datasets import load_wine
from torch import nn


class Cosine(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(13, 32), nn.Tanh(), nn.Linear(32, 16))
        self.classes = nn.Parameter(0.1 * torch.randn(16, 3))
        self.temperature = nn.Parameter(torch.tensor(5.0))

    def forward(self, x):
        return self.temperature * (self.body(x) @ self.classes)


class Trainer:
    def __init__(self, model, lr):
        self.model = model
        self.optimizer = torch.optim.Adam([*model.body.parameters(), model.classes], lr=lr)

    def epoch(self, x, y):
        losses = []
        for rows in torch.randperm(len(x)).split(30):
            loss = F.cross_entropy(self.model(x[rows]), y[rows])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return sum(losses) / len(losses)


torch.manual_seed(0)
X, y = load_wine(return_X_y=True)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
lr = 1e-7  # <- fault: lr = 3e-3
trainer = Trainer(Cosine(), lr)
for epoch in range(40):
    loss = trainer.epoch(X, torch.tensor(y))
    if epoch % 8 == 7:
        print(f"epoch {epoch + 1} loss {loss:.4f}")
