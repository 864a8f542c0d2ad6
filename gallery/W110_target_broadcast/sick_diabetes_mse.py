"""Predict diabetes progression from ten variables with a small regression network."""
import torch
import torch.nn as nn
from sklearn.datasets import load_diabetes
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X, y = load_diabetes(return_X_y=True, scaled=True)
X = torch.tensor(X, dtype=torch.float32) * 21.0
y = torch.tensor(y, dtype=torch.float32)
y = (y - y.mean()) / y.std()
train = DataLoader(TensorDataset(X[:350], y[:350]), batch_size=32, shuffle=True)

model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

for epoch in range(25):
    total = 0.0
    for xb, yb in train:
        pred = model(xb)  # <- fault
        loss = criterion(pred, yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(yb)
    if epoch % 5 == 4:
        with torch.no_grad():
            p = model(X[350:]).squeeze(1)
            r2 = 1 - ((p - y[350:]) ** 2).mean() / y[350:].var()
        print(f"epoch {epoch + 1}: train mse {total / 350:.4f} held-out R2 {r2:.3f}")
