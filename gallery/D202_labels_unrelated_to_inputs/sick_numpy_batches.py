"""Benign or malignant: breast cancer measurements, batches cut in numpy, raw weight tensors."""
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_breast_cancer

rng = np.random.default_rng(1)
torch.manual_seed(1)
X, y = load_breast_cancer(return_X_y=True)
X = ((X - X.mean(0)) / X.std(0)).astype(np.float32)
y = y.astype(np.float32)


def batches(size=32):
    order = rng.permutation(len(X))
    for i in range(0, len(order) - size, size):
        features = X[order[i:i + size]]
        target = y[order[i + 1:i + size + 1]]  # <- fault
        yield torch.from_numpy(features), torch.from_numpy(target)


w1 = (torch.randn(30, 16) / 30 ** 0.5).requires_grad_()
b1 = torch.zeros(16, requires_grad=True)
w2 = (torch.randn(16) / 4).requires_grad_()
b2 = torch.zeros(1, requires_grad=True)
optimizer = torch.optim.SGD([w1, b1, w2, b2], lr=0.05, momentum=0.9)

for epoch in range(1, 41):
    losses, hits = [], []
    for features, target in batches():
        score = torch.tanh(features @ w1 + b1) @ w2 + b2
        loss = F.binary_cross_entropy_with_logits(score, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        hits.append(((score > 0) == (target > 0.5)).float().mean().item())
    if epoch % 5 == 0:
        print(f"epoch {epoch:2d} loss {np.mean(losses):.4f} accuracy {np.mean(hits):.3f}")
