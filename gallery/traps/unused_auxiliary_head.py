"""Network with an auxiliary head that is only kept for compatibility with older checkpoints."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits


class Net(nn.Module):
    def __init__(self, use_aux=False):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
        self.head = nn.Linear(64, 10)
        self.aux_head = nn.Linear(64, 2)
        self.use_aux = use_aux

    def forward(self, x):
        h = self.trunk(x)
        if self.use_aux:
            return self.head(h), self.aux_head(h)
        return self.head(h)


torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(6):
    total = 0.0
    for idx in torch.randperm(len(X)).split(50):
        loss = nn.functional.cross_entropy(net(X[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    print(f"epoch {epoch + 1} loss {total / len(X):.4f}")
