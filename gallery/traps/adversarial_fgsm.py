"""Adversarial training on digits: half clean, half fast-gradient-sign examples."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


def fgsm(model, x, y, eps):
    x = x.clone().requires_grad_(True)
    grad, = torch.autograd.grad(F.cross_entropy(model(x), y), x)
    return (x + eps * grad.sign()).clamp(0, 1).detach()


torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X).float() / 16, torch.tensor(y)
model = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(10):
    for i in torch.randperm(len(X)).split(64):
        adv = fgsm(model, X[i], y[i], eps=0.1)
        loss = 0.5 * F.cross_entropy(model(X[i]), y[i]) + 0.5 * F.cross_entropy(model(adv), y[i])
        opt.zero_grad()
        loss.backward()
        opt.step()
    robust = (model(fgsm(model, X, y, 0.1)).argmax(1) == y).float().mean().item()
    print(f"epoch {epoch}: loss {loss.item():.4f} robust acc {robust:.3f}")
