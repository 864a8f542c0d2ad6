"""Domain-adversarial training: features must tell digits apart but not the contrast setting."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class GradReverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, lam):
        ctx.lam = lam
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -ctx.lam * grad, None


torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X).float() / 16, torch.tensor(y)
domain = torch.arange(len(X)) % 2
X = torch.where(domain[:, None] == 1, 0.6 * X + 0.2, X)
features = nn.Sequential(nn.Linear(64, 48), nn.ReLU())
digit_head = nn.Linear(48, 10)
domain_head = nn.Sequential(nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 2))
params = [*features.parameters(), *digit_head.parameters(), *domain_head.parameters()]
opt = torch.optim.Adam(params, lr=3e-3)
for epoch in range(10):
    for i in torch.randperm(len(X)).split(64):
        h = features(X[i])
        digit_loss = F.cross_entropy(digit_head(h), y[i])
        domain_loss = F.cross_entropy(domain_head(GradReverse.apply(h, 0.3)), domain[i])
        opt.zero_grad()
        (digit_loss + domain_loss).backward()
        opt.step()
    acc = (digit_head(features(X)).argmax(1) == y).float().mean().item()
    print(f"epoch {epoch}: digit {digit_loss.item():.4f} domain {domain_loss.item():.4f} digit acc {acc:.3f}")
