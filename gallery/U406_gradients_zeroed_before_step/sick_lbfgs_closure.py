"""Multinomial logistic regression on the digits with L-BFGS."""
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X = torch.tensor(X / 16, dtype=torch.float32)
y = torch.tensor(y)
W = torch.zeros(64, 10, requires_grad=True)
b = torch.zeros(10, requires_grad=True)
optimizer = torch.optim.LBFGS([W, b], lr=0.5, max_iter=10, history_size=8)


def closure():
    loss = F.cross_entropy(X @ W + b, y) + 1e-4 * W.square().sum()
    loss.backward()
    optimizer.zero_grad()  # <- fault
    return loss


for i in range(20):
    loss = optimizer.step(closure)
    with torch.no_grad():
        acc = ((X @ W + b).argmax(1) == y).float().mean()
    print(f"iteration {i:2d}  objective {loss.item():.5f}  accuracy {acc.item():.4f}")
