"""Digits MLP whose output layer starts at zero, so the first loss is exactly ln 10."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X).float() / 16, torch.tensor(y)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
nn.init.zeros_(model[-1].weight)
nn.init.zeros_(model[-1].bias)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for epoch in range(10):
    for b, i in enumerate(torch.randperm(len(X)).split(64)):
        loss = criterion(model(X[i]), y[i])
        if epoch == b == 0:
            print(f"initial loss {loss.item():.4f}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.4f} acc {(model(X).argmax(1) == y).float().mean():.3f}")
