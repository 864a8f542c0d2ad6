"""Raw tensors in a dict, torch.autograd.grad and momentum by hand; no nn.Module."""
import torch
from sklearn.datasets import load_wine

torch.manual_seed(0)
X, y = load_wine(return_X_y=True)
X = torch.tensor(X, dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)
y = torch.tensor(y)


def init(n_in, n_hidden, n_out):
    return {
        "w1": torch.randn(n_in, n_hidden) / n_in ** 0.5, "b1": torch.zeros(n_hidden),
        "w2": torch.randn(n_hidden, n_out) / n_hidden ** 0.5, "b2": torch.zeros(n_out),
    }


def forward(p, x):
    return torch.tanh(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]


params = {k: v.requires_grad_() for k, v in init(13, 16, 3).items()}
velocity = {k: torch.zeros_like(v) for k, v in params.items()}
for step in range(200):
    idx = torch.randint(len(X), (32,))
    logits = forward(params, X[idx])
    loss = torch.nn.functional.cross_entropy(logits, y[idx])
    grads = torch.autograd.grad(loss, list(params.values()))
    with torch.no_grad():
        for (k, p), g in zip(params.items(), grads):
            velocity[k] = 0.9 * velocity[k] + g
        params = {k: (p - 0.05 * velocity[k]).requires_grad_() for k, p in params.items()}
    if step % 40 == 39:
        print(f"step {step + 1}: loss {loss.item():.4f}")
