"""Two circles, binary cross entropy, raw tensors, clipping, SGD written by hand."""
import torch
import torch.nn.functional as F
from sklearn.datasets import make_circles

torch.manual_seed(0)
X, y = make_circles(800, noise=0.08, factor=0.5, random_state=0)
X = torch.tensor(X, dtype=torch.float32)
y = torch.tensor(y, dtype=torch.float32)

W1 = (torch.randn(2, 32) / 2 ** 0.5).requires_grad_()
b1 = torch.zeros(32, requires_grad=True)
W2 = (torch.randn(32, 1) / 32 ** 0.5).requires_grad_()
b2 = torch.zeros(1, requires_grad=True)
params = [W1, b1, W2, b2]
lr, weight_decay, max_norm = 0.3, 1e-4, 2.0


for epoch in range(30):
    total = hits = 0
    for rows in torch.randperm(len(X)).split(40):
        score = (F.relu(X[rows] @ W1 + b1) @ W2 + b2).squeeze(1)
        loss = F.binary_cross_entropy_with_logits(score, y[rows])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, max_norm)
        with torch.no_grad():
            for p in params:
                p -= lr * (p.grad + weight_decay * p)
                p.grad = None
        total += loss.item() * len(rows)
        hits += ((score > 0) == (y[rows] > 0.5)).sum().item()
    if epoch % 3 == 2:
        print(f"epoch {epoch + 1}: loss {total / len(X):.4f} accuracy {hits / len(X):.3f}")
