"""Digits classifier with a small Trainer class."""
import copy

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class Trainer:
    def __init__(self, model, optimizer, loader, criterion):
        self.model = copy.deepcopy(model)  # <- fault
        self.optimizer = optimizer
        self.loader = loader
        self.criterion = criterion

    def fit(self, epochs):
        for epoch in range(epochs):
            running, correct, seen = 0.0, 0, 0
            for xb, yb in self.loader:
                self.optimizer.zero_grad()
                out = self.model(xb)
                loss = self.criterion(out, yb)
                loss.backward()
                self.optimizer.step()
                running += loss.item() * len(yb)
                correct += (out.argmax(1) == yb).sum().item()
                seen += len(yb)
            print(f"epoch {epoch:2d}  loss {running / seen:.4f}  acc {correct / seen:.3f}")


torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data / 16, dtype=torch.float32)
y = torch.tensor(digits.target)
loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
Trainer(net, torch.optim.Adam(net.parameters(), lr=3e-3), loader, nn.CrossEntropyLoss()).fit(8)
