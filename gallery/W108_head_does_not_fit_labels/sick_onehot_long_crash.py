"""Iris classification with encoded targets and a learning-rate schedule."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_iris

torch.manual_seed(0)
iris = load_iris()
X = torch.tensor(iris.data, dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)
targets = F.one_hot(torch.tensor(iris.target), num_classes=3)  # <- fault

model = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 3))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.97)
for epoch in range(1, 41):
    for rows in torch.randperm(150).split(30):
        optimizer.zero_grad()
        loss = criterion(model(X[rows]), targets[rows])
        loss.backward()
        optimizer.step()
    scheduler.step()
    if epoch % 8 == 0:
        acc = (model(X).argmax(1) == targets.argmax(1)).float().mean().item()
        print(f"epoch {epoch}: loss {loss.item():.4f} acc {acc:.3f}")
