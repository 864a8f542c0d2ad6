"""A neural network from scratch: autograd for the gradients, the update rule by hand."""
import torch
from sklearn.datasets import load_wine


def init(n_in, n_out, gen):
    w = torch.randn(n_in, n_out, generator=gen) / n_in ** 0.5
    return w.requires_grad_(), torch.zeros(n_out, requires_grad=True)


gen = torch.Generator().manual_seed(0)
wine = load_wine()
x = torch.tensor(wine.data, dtype=torch.float32)
x = (x - x.mean(0)) / x.std(0)
y = torch.tensor(wine.target)
onehot = torch.eye(3)[y]

w1, b1 = init(13, 16, gen)
w2, b2 = init(16, 3, gen)
params = [w1, b1, w2, b2]
lr = 0.05

for epoch in range(1, 301):
    scores = torch.tanh(x @ w1 + b1) @ w2 + b2
    logp = scores - scores.logsumexp(dim=1, keepdim=True)
    loss = -(onehot * logp).sum(dim=1).mean()
    loss.backward()
    with torch.no_grad():
        for p in params:
            p -= lr * p.grad
            p.grad = None
    if epoch % 50 == 0:
        acc = (scores.argmax(1) == y).float().mean()
        print(f"epoch {epoch}: loss {loss.item():.4f}, accuracy {acc.item():.3f}")
