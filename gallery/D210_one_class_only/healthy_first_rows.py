"""Quick experiment on a third of the iris table, tested on the rest."""
import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_iris

np.random.seed(0)
torch.manual_seed(0)
X, y = load_iris(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
order = np.random.permutation(len(X))
X = torch.tensor(X[order], dtype=torch.float32)
y = torch.tensor(y[order])
X_train, y_train, X_test, y_test = X[:50], y[:50], X[50:], y[50:]

model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
loss_fn = nn.CrossEntropyLoss()
for epoch in range(50):
    for idx in torch.randperm(50).split(10):
        optimizer.zero_grad()
        loss = loss_fn(model(X_train[idx]), y_train[idx])
        loss.backward()
        optimizer.step()
    if epoch % 10 == 9:
        with torch.no_grad():
            out = model(X_test)
        print(f"epoch {epoch + 1} train loss {loss.item():.4f} test loss {loss_fn(out, y_test).item():.4f} "
              f"test acc {(out.argmax(1) == y_test).float().mean().item():.3f}")
