"""Softmax-gated mixture of four experts; the mixed logits go to the loss."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class MoE(nn.Module):
    def __init__(self, d_in, d_out, n_experts=4):
        super().__init__()
        self.gate = nn.Linear(d_in, n_experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(d_in, 24), nn.ReLU(), nn.Linear(24, d_out)) for _ in range(n_experts))

    def forward(self, x):
        g = self.gate(x).softmax(dim=-1)
        out = torch.stack([e(x) for e in self.experts], dim=1)
        return torch.einsum("be,bec->bc", g, out), g


torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X).float() / 16, torch.tensor(y)
model = MoE(64, 10)
opt = torch.optim.AdamW(model.parameters(), lr=5e-3)
for step in range(1, 251):
    i = torch.randint(len(X), (64,))
    logits, g = model(X[i])
    balance = (g.mean(0) * g.mean(0).clamp_min(1e-9).log()).sum()
    loss = F.cross_entropy(logits, y[i]) + 0.01 * balance
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 50 == 0:
        print(f"step {step}: loss {loss.item():.4f} acc {(logits.argmax(1) == y[i]).float().mean():.3f} gate {g.mean(0).tolist()}")
