"""MoCo-like contrast against a queue: the positive is always column 0, targets are all zeros."""
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(0)
X = torch.tensor(load_digits().data).float() / 16
query = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
key = copy.deepcopy(query)
queue = F.normalize(torch.randn(512, 16), dim=1)
opt = torch.optim.SGD(query.parameters(), lr=0.1, momentum=0.9)
tau, m, ptr = 0.2, 0.95, 0
for step in range(1, 301):
    x = X[torch.randint(len(X), (32,))]
    q = F.normalize(query(x + 0.15 * torch.randn_like(x)), dim=1)
    with torch.no_grad():
        for pq, pk in zip(query.parameters(), key.parameters()):
            pk.mul_(m).add_(pq, alpha=1 - m)
        k = F.normalize(key(x + 0.15 * torch.randn_like(x)), dim=1)
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.t()], dim=1) / tau
    loss = F.cross_entropy(logits, torch.zeros(len(x), dtype=torch.long))
    opt.zero_grad()
    loss.backward()
    opt.step()
    queue[ptr:ptr + 32] = k
    ptr = (ptr + 32) % 512
    if step % 50 == 0:
        print(f"step {step}: loss {loss.item():.4f} hit {(logits.argmax(1) == 0).float().mean():.3f}")
