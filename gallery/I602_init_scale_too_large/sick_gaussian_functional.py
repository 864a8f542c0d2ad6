"""Twelve overlapping clusters with a four-layer ReLU network on raw weight tensors."""
import torch
import torch.nn.functional as F
from sklearn.datasets import make_blobs

torch.manual_seed(0)
X, y = make_blobs(n_samples=2400, n_features=16, centers=12, cluster_std=7.0, random_state=0)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
y = torch.tensor(y)
Xtr, ytr, Xte, yte = X[:2000], y[:2000], X[2000:], y[2000:]


def weight(fan_in, fan_out):
    return torch.randn(fan_in, fan_out).requires_grad_()  # <- fault


params = {
    "w1": weight(16, 100), "b1": torch.zeros(100, requires_grad=True),
    "w2": weight(100, 100), "b2": torch.zeros(100, requires_grad=True),
    "w3": weight(100, 100), "b3": torch.zeros(100, requires_grad=True),
    "w4": weight(100, 12), "b4": torch.zeros(12, requires_grad=True),
}


def forward(x, p):
    x = F.relu(F.linear(x, p["w1"].T, p["b1"]))
    x = F.relu(F.linear(x, p["w2"].T, p["b2"]))
    x = F.relu(F.linear(x, p["w3"].T, p["b3"]))
    return F.linear(x, p["w4"].T, p["b4"])


optimizer = torch.optim.SGD(params.values(), lr=0.05)
for epoch in range(12):
    total = 0.0
    for idx in torch.randperm(len(Xtr)).split(40):
        loss = F.cross_entropy(forward(Xtr[idx], params), ytr[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    with torch.no_grad():
        acc = (forward(Xte, params).argmax(1) == yte).float().mean().item()
    print(f"epoch {epoch:2d}  loss {total / len(Xtr):10.4f}  test acc {acc:.3f}")
