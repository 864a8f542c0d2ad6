"""Breast cancer data, a stack of twelve tanh layers as raw tensors, full-batch descent."""
import torch
import torch.nn.functional as F
from sklearn.datasets import load_breast_cancer

torch.manual_seed(2)
X, y = load_breast_cancer(return_X_y=True)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
y = torch.tensor(y, dtype=torch.float32)
gain = 1.2
sizes = [30] + [24] * 12 + [1]
weights = [gain * torch.randn(n, m) / n ** 0.5 for n, m in zip(sizes, sizes[1:])]
biases = [torch.zeros(m) for m in sizes[1:]]
params = weights + biases
for p in params:
    p.requires_grad_()


def predict(x):
    for w, b in zip(weights[:-1], biases[:-1]):
        x = torch.tanh(x @ w + b)
    return (x @ weights[-1] + biases[-1]).squeeze(1)


lr = 0.1
for step in range(1, 301):
    score = predict(X)
    loss = F.binary_cross_entropy_with_logits(score, y)
    grads = torch.autograd.grad(loss, params)
    with torch.no_grad():
        for p, g in zip(params, grads):
            p.sub_(g, alpha=lr)
    if step % 30 == 0:
        accuracy = ((score > 0) == (y > 0.5)).float().mean().item()
        print(f"step {step:3d} loss {loss.item():.4f} accuracy {accuracy:.3f}")
