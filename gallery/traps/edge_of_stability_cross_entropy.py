"""Full-batch gradient descent with a large step and smoothed labels on the wine data."""

import torch
from sklearn.datasets import load_wine
from torch import nn

torch.manual_seed(2)
X, y = load_wine(return_X_y=True)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
y = torch.tensor(y)
net = nn.Sequential(nn.Linear(13, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
sgd = torch.optim.SGD(net.parameters(), lr=1.6)
criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
ups, previous = 0, None
for it in range(300):
    loss = criterion(net(X), y)
    sgd.zero_grad()
    loss.backward()
    sgd.step()
    ups += previous is not None and loss.item() > previous
    previous = loss.item()
    if it % 30 == 29:
        with torch.no_grad():
            acc = (net(X).argmax(1) == y).float().mean()
        print(f"iteration {it + 1} loss {loss.item():.4f} acc {acc:.3f} upward steps {ups}")
