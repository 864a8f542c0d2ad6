"""Meta-learning (MAML) of sine waves: one inner gradient step with create_graph, Adam on the outer loss."""
import torch
import torch.nn as nn
from torch.func import functional_call


def sample_task():
    amplitude, phase = torch.rand(()) * 2 + 1, torch.rand(()) * 3.14
    return lambda x: amplitude * torch.sin(x + phase)


torch.manual_seed(0)
net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
meta = torch.optim.Adam(net.parameters(), lr=3e-3)
history = []
for step in range(200):
    outer = 0.0
    for _ in range(3):
        f = sample_task()
        xs, xq = torch.rand(10, 1) * 6 - 3, torch.rand(20, 1) * 6 - 3
        params = dict(net.named_parameters())
        inner = nn.functional.mse_loss(functional_call(net, params, (xs,)), f(xs))
        grads = torch.autograd.grad(inner, list(params.values()), create_graph=True)
        fast = {k: p - 0.05 * g for (k, p), g in zip(params.items(), grads)}
        outer = outer + nn.functional.mse_loss(functional_call(net, fast, (xq,)), f(xq)) / 3
    meta.zero_grad()
    outer.backward()
    meta.step()
    history.append(outer.item())
    if step % 25 == 24:
        print(f"step {step + 1} outer loss {sum(history[-25:]) / 25:.4f}")
