"""Iris with strong weight decay; a class offset that stays at zero is kept out of the optimizer."""
import torch
from sklearn.datasets import load_iris
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 3, bias=False))
        self.offset = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return self.body(x) + self.offset


torch.manual_seed(0)
X, y = load_iris(return_X_y=True)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
y = torch.tensor(y)
net = Net()
decay = 0.3  # <- fault: decay = 1e-4
optimizer = torch.optim.SGD(net.body.parameters(), lr=0.05, momentum=0.9, weight_decay=decay)
for epoch in range(60):
    for rows in torch.randperm(len(X)).split(30):
        loss = nn.functional.cross_entropy(net(X[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 10 == 9:
        print(epoch + 1, loss.item())
