"""Logistic regression on the breast-cancer data with everything written out by hand."""
import torch
from sklearn.datasets import load_breast_cancer

torch.manual_seed(0)
data = load_breast_cancer()
X = torch.tensor(data.data, dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)
y = torch.tensor(data.target, dtype=torch.float32).reshape(-1, 1)

w = (0.01 * torch.randn(30, 1)).requires_grad_()
b = torch.zeros(1, requires_grad=True)


def predict(x):
    return torch.sigmoid(x @ w + b)


def loss_fn(p, t):
    p = p.clamp(1e-6, 1 - 1e-6)
    return -(t * p.log() + (1 - t) * (1 - p).log()).mean()


optimizer = torch.optim.SGD([w, b], lr=0.5)
for it in range(1, 301):
    batch = torch.randint(0, len(X), (64,))
    loss = loss_fn(predict(X[batch]), y[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if it % 50 == 0:
        acc = ((predict(X).flatten() > 0.5) == (y.flatten() > 0.5)).float().mean().item()
        print(f"iteration {it}: loss {loss.item():.4f} accuracy {acc:.3f}")
