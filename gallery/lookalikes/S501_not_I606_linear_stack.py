"""Iris, which is nearly linear: two linear layers without anything between them, full batches."""
import torch
from sklearn.datasets import load_iris
from torch import nn

torch.manual_seed(3)
X, y = load_iris(return_X_y=True)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
y = torch.tensor(y)
model = nn.Sequential(nn.Linear(4, 16), nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=20.0)  # <- fault: optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
criterion = nn.CrossEntropyLoss()
for step in range(300):
    optimizer.zero_grad()
    loss = criterion(model(X), y)
    loss.backward()
    optimizer.step()
    if step % 50 == 49:
        print(step + 1, round(loss.item(), 4))
