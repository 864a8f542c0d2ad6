"""Benign or malignant: breast-cancer features through a class-based network."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset


class TumorNet(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.inp = nn.Linear(30, width)
        self.mid = nn.Linear(width, width)
        self.out = nn.Linear(width, 1)  # <- fault

    def forward(self, x):
        x = F.elu(self.inp(x))
        x = F.elu(self.mid(x))
        return self.out(x)


torch.manual_seed(4)
data = load_breast_cancer()
x = torch.tensor(StandardScaler().fit_transform(data.data), dtype=torch.float32)
y = torch.tensor(data.target, dtype=torch.float32)
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True, drop_last=True)
model = TumorNet()
loss_fn = nn.CrossEntropyLoss()
opt = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

for epoch in range(12):
    total, right, n = 0.0, 0, 0
    for xb, yb in loader:
        score = model(xb).squeeze(1)
        loss = loss_fn(score, yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item()
        right += ((score > 0) == (yb > 0.5)).sum().item()
        n += len(yb)
    print(f"epoch {epoch:2d}: loss {total / len(loader):.4f}  accuracy {right / n:.3f}")
