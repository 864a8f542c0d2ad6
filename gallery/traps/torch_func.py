"""Functional training with torch.func: functional_call and grad_and_value, parameters in a dict."""
import torch
import torch.nn as nn
from sklearn.datasets import load_wine
from torch.func import functional_call, grad_and_value

torch.manual_seed(0)
X, y = load_wine(return_X_y=True)
X = torch.tensor(X, dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)
y = torch.tensor(y)
model = nn.Sequential(nn.Linear(13, 20), nn.Tanh(), nn.Linear(20, 3))
params = {k: v.detach() for k, v in model.named_parameters()}


def compute_loss(params, xb, yb):
    return nn.functional.cross_entropy(functional_call(model, params, (xb,)), yb)


step_fn = grad_and_value(compute_loss)
for step in range(200):
    idx = torch.randint(len(X), (32,))
    grads, loss = step_fn(params, X[idx], y[idx])
    params = {k: p - 0.2 * grads[k] for k, p in params.items()}
    if step % 40 == 39:
        print(f"step {step + 1} loss {loss.item():.4f}")
acc = (functional_call(model, params, (X,)).argmax(1) == y).float().mean().item()
print(f"accuracy {acc:.3f}")
