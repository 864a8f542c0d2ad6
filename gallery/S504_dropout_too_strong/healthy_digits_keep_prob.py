"""Digits with a functional perceptron on raw tensors, dropout applied by hand to both layers."""
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X = torch.tensor(X / 8 - 1, dtype=torch.float32)
y = torch.tensor(y)
perm = torch.randperm(len(X))
train, test = perm[:1400], perm[1400:]
keep_prob = 0.93

W1 = (torch.randn(64, 256) / 14).requires_grad_()
b1 = torch.zeros(256, requires_grad=True)
W2 = (torch.randn(256, 128) / 28).requires_grad_()
b2 = torch.zeros(128, requires_grad=True)
W3 = (torch.randn(128, 10) / 20).requires_grad_()
b3 = torch.zeros(10, requires_grad=True)


def drop(h, training):
    return F.dropout(h, p=1 - keep_prob, training=training)


def net(x, training):
    h = drop(F.relu(x @ W1 + b1), training)
    h = drop(F.relu(h @ W2 + b2), training)
    return h @ W3 + b3


optimizer = torch.optim.Adam([W1, b1, W2, b2, W3, b3], lr=1e-3)
for epoch in range(20):
    total = 0.0
    for idx in train[torch.randperm(len(train))].split(50):
        loss = F.cross_entropy(net(X[idx], training=True), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    if epoch % 2 == 1:
        with torch.no_grad():
            acc = (net(X[test], training=False).argmax(1) == y[test]).float().mean().item()
        print(f"epoch {epoch + 1:2d}  train loss {total / len(train):.3f}  test acc {acc:.3f}")
