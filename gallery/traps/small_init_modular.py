"""Addition modulo 23 from a small initialisation with weight decay: late, sudden understanding."""

import torch
import torch.nn as nn

P = 23
torch.manual_seed(0)
pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
answer = pairs.sum(1) % P
perm = torch.randperm(len(pairs))
train, test = perm[:430], perm[430:]


class Adder(nn.Module):
    def __init__(self, dim=64, scale=0.01):
        super().__init__()
        self.a = nn.Embedding(P, dim)
        self.b = nn.Embedding(P, dim)
        self.out = nn.Linear(dim, P, bias=False)
        for p in self.parameters():
            nn.init.normal_(p, std=scale)

    def forward(self, ab):
        return self.out((self.a(ab[:, 0]) + self.b(ab[:, 1])) ** 2)


model = Adder()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1.0)
for step in range(1, 901):
    logits = model(pairs[train])
    loss = nn.functional.cross_entropy(logits, answer[train])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 90 == 0:
        tr = (logits.argmax(1) == answer[train]).float().mean()
        te = (model(pairs[test]).argmax(1) == answer[test]).float().mean()
        print(f"step {step} loss {loss.item():.4f} train {tr:.3f} test {te:.3f}")
