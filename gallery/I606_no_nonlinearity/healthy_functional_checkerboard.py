"""Checkerboard squares (two colours), raw weight tensors and functional calls."""
import torch
import torch.nn.functional as F

g = torch.Generator().manual_seed(0)
x = torch.rand(2000, 2, generator=g) * 4 - 2
y = ((x[:, 0].floor() + x[:, 1].floor()) % 2).long()

width = 64
w1 = (torch.randn(width, 2, generator=g) * 0.7).requires_grad_()
b1 = torch.empty(width).uniform_(-1, 1, generator=g).requires_grad_()
w2 = (torch.randn(width, width, generator=g) * (2 / width) ** 0.5).requires_grad_()
b2 = torch.zeros(width, requires_grad=True)
w3 = (torch.randn(2, width, generator=g) * 0.05).requires_grad_()
b3 = torch.zeros(2, requires_grad=True)


def activation(z):
    return F.relu(z)


def forward(inputs):
    h = activation(F.linear(inputs, w1, b1))
    h = activation(F.linear(h, w2, b2))
    return F.linear(h, w3, b3)


optimizer = torch.optim.Adam([w1, b1, w2, b2, w3, b3], lr=3e-3)
for step in range(901):
    rows = torch.randint(len(x), (128,), generator=g)
    loss = F.cross_entropy(forward(x[rows]), y[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 150 == 0:
        with torch.no_grad():
            acc = (forward(x).argmax(1) == y).float().mean().item()
        print(f"step {step:4d} loss {loss.item():.4f} acc {acc:.3f}")
