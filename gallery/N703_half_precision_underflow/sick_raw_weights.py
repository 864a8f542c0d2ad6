"""Breast cancer data, two layers of raw weight tensors and a hand-written gradient step."""
import torch
import torch.nn.functional as F
from sklearn.datasets import load_breast_cancer

torch.manual_seed(4)
data = load_breast_cancer()
x = torch.tensor((data.data - data.data.mean(0)) / data.data.std(0))
y = torch.tensor(data.target)
kind = torch.bfloat16  # <- fault
x = x.to(kind)


def weight(rows, cols):
    return (torch.randn(rows, cols) * rows ** -0.5).to(kind).requires_grad_()


w1, b1 = weight(30, 40), torch.full((40,), 0.5, dtype=kind, requires_grad=True)
w2, b2 = weight(40, 2), torch.full((2,), 0.5, dtype=kind, requires_grad=True)
params, lr = [w1, b1, w2, b2], 2e-4

for epoch in range(60):
    total, right = 0.0, 0
    for rows in torch.randperm(len(x)).split(8):
        hidden = torch.tanh(x[rows] @ w1 + b1)
        logits = hidden @ w2 + b2
        loss = F.cross_entropy(logits.float(), y[rows])
        grads = torch.autograd.grad(loss, params)
        with torch.no_grad():
            for p, g in zip(params, grads):
                p -= lr * g
        total += loss.item() * len(rows)
        right += (logits.argmax(1) == y[rows]).sum().item()
    if epoch % 6 == 5:
        print(f"epoch {epoch + 1:2d}: loss {total / len(x):.4f}, accuracy {right / len(x):.3f}")
