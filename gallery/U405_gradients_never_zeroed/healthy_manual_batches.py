"""Breast cancer data, MLP, mini-batches by slicing a permutation, SGD with momentum."""
import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

torch.manual_seed(0)
X, y = load_breast_cancer(return_X_y=True)
X = torch.tensor(StandardScaler().fit_transform(X), dtype=torch.float32)
y = torch.tensor(y)

model = nn.Sequential(nn.Linear(30, 32), nn.Tanh(), nn.Linear(32, 2))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
batch_size = 32
for epoch in range(20):
    perm = torch.randperm(len(X))
    epoch_loss = 0.0
    for start in range(0, len(X), batch_size):
        idx = perm[start:start + batch_size]
        loss = criterion(model(X[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        epoch_loss += loss.item() * len(idx)
    print(f"epoch {epoch + 1:2d}, loss {epoch_loss / len(X):.4f}")
