"""CLIP-style matching of the top and bottom halves of digits with a symmetric contrastive loss."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(0)
x = torch.tensor(load_digits().images).float() / 16
top, bottom = x[:, :4].flatten(1), x[:, 4:].flatten(1)


def tower():
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 24))


enc_a, enc_b = tower(), tower()
logit_scale = nn.Parameter(torch.tensor(2.3))
opt = torch.optim.AdamW([*enc_a.parameters(), *enc_b.parameters(), logit_scale], lr=3e-3)
for step in range(1, 301):
    i = torch.randperm(len(x))[:64]
    a, b = F.normalize(enc_a(top[i]), dim=-1), F.normalize(enc_b(bottom[i]), dim=-1)
    logits = logit_scale.exp() * a @ b.t()
    target = torch.arange(len(i))
    loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target)) / 2
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 50 == 0:
        print(f"step {step} loss {loss.item():.4f} matched {(logits.argmax(1) == target).float().mean():.3f}")
