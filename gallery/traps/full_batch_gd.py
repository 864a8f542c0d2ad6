"""Full-batch gradient descent on the iris tensors with raw weights, the same rows at every step."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_iris

torch.manual_seed(0)
X, y = load_iris(return_X_y=True)
X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
X = (X - X.mean(0)) / X.std(0)
W1 = (torch.randn(4, 16) / 2).requires_grad_()
b1 = torch.zeros(16, requires_grad=True)
W2 = (torch.randn(16, 3) / 4).requires_grad_()
b2 = torch.zeros(3, requires_grad=True)
optimizer = torch.optim.SGD([W1, b1, W2, b2], lr=0.3)
for step in range(1, 601):
    logits = torch.tanh(X @ W1 + b1) @ W2 + b2
    loss = F.cross_entropy(logits, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(
            f"step {step} loss {loss.item():.4f} acc {(logits.argmax(1) == y).float().mean():.3f}"
        )
