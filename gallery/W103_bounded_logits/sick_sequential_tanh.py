"""Digits classifier, everything in one nn.Sequential, Adam with a cosine schedule."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(3)
digits = load_digits()
X = torch.tensor(digits.data, dtype=torch.float32)
X = (X - X.mean()) / X.std()
Y = torch.tensor(digits.target)
loader = DataLoader(TensorDataset(X, Y), batch_size=64, shuffle=True)

model = nn.Sequential(
    nn.Linear(64, 50), nn.Tanh(),
    nn.Linear(50, 10), nn.Tanh(),  # <- fault
)
opt = torch.optim.Adam(model.parameters(), lr=5e-3)
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=12)
ce = nn.CrossEntropyLoss()

for epoch in range(12):
    total, correct = 0.0, 0
    for xb, yb in loader:
        out = model(xb)
        loss = ce(out, yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item() * len(yb)
        correct += (out.argmax(1) == yb).sum().item()
    sched.step()
    print(f"epoch {epoch} loss {total / len(X):.4f} acc {correct / len(X):.3f} lr {sched.get_last_lr()[0]:.5f}")
