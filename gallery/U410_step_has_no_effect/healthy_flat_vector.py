"""Sign-momentum (Lion-like) optimizer that works on one flat parameter vector."""
import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from torch.nn.utils import parameters_to_vector, vector_to_parameters


class FlatLion(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.99)):
        super().__init__(params, {"lr": lr, "betas": betas})
        self.momentum = None

    @torch.no_grad()
    def step(self):
        group = self.param_groups[0]
        params = group["params"]
        grad = torch.cat([p.grad.flatten() for p in params])
        if self.momentum is None:
            self.momentum = torch.zeros_like(grad)
        b1, b2 = group["betas"]
        theta = parameters_to_vector(params)
        update = (b1 * self.momentum + (1 - b1) * grad).sign()
        theta.add_(update, alpha=-group["lr"])
        vector_to_parameters(theta, params)
        self.momentum.mul_(b2).add_(grad, alpha=1 - b2)


torch.manual_seed(0)
X, y = load_breast_cancer(return_X_y=True)
X = torch.tensor(X, dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)
y = torch.tensor(y)
net = nn.Sequential(nn.Linear(30, 24), nn.SiLU(), nn.Linear(24, 2))
opt = FlatLion(net.parameters(), lr=2e-3)
for epoch in range(12):
    correct = total = 0
    for idx in torch.randperm(len(X)).split(40):
        opt.zero_grad()
        out = net(X[idx])
        loss = nn.functional.cross_entropy(out, y[idx])
        loss.backward()
        opt.step()
        total += loss.item() * len(idx)
        correct += (out.argmax(1) == y[idx]).sum().item()
    print(f"epoch {epoch:2d}: loss {total / len(X):.4f}, accuracy {correct / len(X):.3f}")
