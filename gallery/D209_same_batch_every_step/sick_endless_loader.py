"""Digits, a fixed number of steps over an endless loader, held-out accuracy printed."""
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X = torch.tensor(X / 16, dtype=torch.float32)
y = torch.tensor(y)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0)
loader = DataLoader(TensorDataset(X_train, y_train), batch_size=32)


def endless(loader):
    while True:
        yield next(iter(loader))  # <- fault


model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
loss_fn = nn.CrossEntropyLoss()
batches = endless(loader)
for step in range(1, 401):
    xb, yb = next(batches)
    loss = loss_fn(model(xb), yb)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        with torch.no_grad():
            accuracy = (model(X_test).argmax(1) == y_test).float().mean().item()
        print(f"step {step:3d}  loss {loss.item():.4f}  held-out accuracy {accuracy:.3f}")
