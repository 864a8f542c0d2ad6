"""Digits with one-hot targets and the cross-entropy written out, plain SGD."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(0)
digits = load_digits()
X = torch.tensor(digits.data / 16, dtype=torch.float32)
targets = F.one_hot(torch.tensor(digits.target), 10).float()


def cross_entropy(logits, onehot):
    logp = F.log_softmax(logits, dim=1)
    return -(onehot * logp).mean()  # <- fault


model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(10):
    total, right = 0.0, 0
    for rows in torch.randperm(len(X)).split(64):
        logits = model(X[rows])
        loss = cross_entropy(logits, targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
        right += (logits.argmax(1) == targets[rows].argmax(1)).sum().item()
    print(f"epoch {epoch + 1:2d} loss {total / len(X):.4f} accuracy {right / len(X):.3f}")
