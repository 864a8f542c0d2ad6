"""LoRA: a digits network trained on upright images is adapted to rotated ones with low-rank updates, B starting at zero."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class LoRALinear(nn.Module):
    def __init__(self, base, rank=8, alpha=16):
        super().__init__()
        self.base = base
        for p in self.base.parameters():
            p.requires_grad = False
        self.A = nn.Parameter(torch.randn(rank, base.in_features) / base.in_features ** 0.5)
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))
        self.scale = alpha / rank

    def forward(self, x):
        return self.base(x) + self.scale * (x @ self.A.T @ self.B.T)


def epochs(model, x, y, n, lr):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    for epoch in range(n):
        total = 0.0
        for idx in torch.randperm(len(x)).split(64):
            loss = F.cross_entropy(model(x[idx]), y[idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(idx)
        print(f"  epoch {epoch + 1} loss {total / len(x):.4f}")


torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor((X - X.mean(0)) / 6, dtype=torch.float32), torch.tensor(y)
rotated = X.view(-1, 8, 8).rot90(1, (1, 2)).flatten(1)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
print("base model")
epochs(model, X, y, 5, 3e-3)
model[0], model[2] = LoRALinear(model[0]), LoRALinear(model[2])
print("adapting to rotated images")
epochs(model, rotated, y, 8, 3e-3)
