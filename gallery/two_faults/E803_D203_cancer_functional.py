"""Breast cancer diagnosis, hand-written layers and a hand-written update."""
import torch
import torch.nn.functional as F
from sklearn.datasets import load_breast_cancer

g = torch.Generator().manual_seed(0)
data = load_breast_cancer()
table = torch.tensor(data.data, dtype=torch.float32)
y = torch.tensor(data.target)
x = table  # <- fault D203

w1 = (torch.randn(30, 32, generator=g) / 30 ** 0.5).requires_grad_()
b1 = torch.zeros(32, requires_grad=True)
w2 = (torch.randn(32, 32, generator=g) / 32 ** 0.5).requires_grad_()
b2 = torch.zeros(32, requires_grad=True)
w3 = (torch.randn(32, 2, generator=g) / 32 ** 0.5).requires_grad_()
b3 = torch.zeros(2, requires_grad=True)
params = [w1, b1, w2, b2, w3, b3]


def forward(x):
    return F.relu(F.relu(x @ w1 + b1) @ w2 + b2) @ w3 + b3


for epoch in range(25):
    total, right = 0.0, 0
    for rows in torch.randperm(len(x), generator=g).split(64):
        logits = forward(x[rows])
        loss = F.cross_entropy(logits, y[rows], reduction="sum")  # <- fault E803
        grads = torch.autograd.grad(loss, params)
        with torch.no_grad():
            for p, d in zip(params, grads):
                p -= 0.1 * d
        total += loss.item()
        right += (logits.argmax(1) == y[rows]).sum().item()
    if epoch % 3 == 0:
        print(f"epoch {epoch + 1:2d} loss {total:.4f} accuracy {right / len(x):.3f}")
