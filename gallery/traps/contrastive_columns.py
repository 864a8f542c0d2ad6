"""Two-tower retrieval where the normalisation runs over the batch of queries (dim=0) on purpose."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(0)
x = torch.tensor(load_digits().images).float() / 16
left, right = x[:, :, :4].flatten(1), x[:, :, 4:].flatten(1)
f = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 24))
g = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 24))
opt = torch.optim.Adam([*f.parameters(), *g.parameters()], lr=3e-3)
for step in range(1, 301):
    i = torch.randperm(len(x))[:48]
    sim = f(left[i]) @ g(right[i]).t() / 24 ** 0.5
    loss = -0.5 * (sim.log_softmax(dim=0).diag() + sim.log_softmax(dim=1).diag()).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 50 == 0:
        print(f"step {step}: loss {loss.item():.4f}")
