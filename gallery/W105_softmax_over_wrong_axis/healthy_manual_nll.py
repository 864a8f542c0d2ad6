"""Digits with a hand-written negative log-likelihood and manual mini-batches."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(5)
X, y = load_digits(return_X_y=True)
X = torch.tensor(X, dtype=torch.float32) / 16.0
y = torch.tensor(y)
n_train = 1400


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(64, 64)
        self.output = nn.Linear(64, 10)

    def forward(self, x):
        h = torch.tanh(self.hidden(x))
        return torch.log_softmax(self.output(h), dim=1)


def nll(log_probs, target):
    return -log_probs[torch.arange(len(target)), target].mean()


net = MLP()
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True)
for epoch in range(12):
    perm = torch.randperm(n_train)
    tot = 0.0
    for b in perm.split(64):
        loss = nll(net(X[b]), y[b])
        opt.zero_grad()
        loss.backward()
        opt.step()
        tot += loss.item() * len(b)
    with torch.no_grad():
        lp = net(X[n_train:])
        acc = (lp.argmax(1) == y[n_train:]).float().mean()
    print(f"epoch {epoch:2d} train nll {tot / n_train:.4f} test acc {acc:.3f}")
