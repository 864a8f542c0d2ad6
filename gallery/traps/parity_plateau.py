"""Parity of three out of twelve bits: nothing for a while, then a sudden drop."""
import torch
import torch.nn as nn

torch.manual_seed(0)
gen = torch.Generator().manual_seed(1)
model = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 1))
loss_fn = nn.BCEWithLogitsLoss()
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(1, 1001):
    bits = torch.randint(0, 2, (64, 12), generator=gen).float()
    label = (bits[:, [1, 4, 7]].sum(1) % 2)
    out = model(2 * bits - 1).squeeze(1)
    loss = loss_fn(out, label)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 100 == 0:
        print(f"step {step}: loss {loss.item():.4f} acc {((out > 0) == (label > 0.5)).float().mean():.3f}")
