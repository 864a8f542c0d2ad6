"""Which of eight colours lies under the noise? Per-pixel NLL on an 8 x 8 mosaic, 1 x 1 head, functional style."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(2)
palette = torch.rand(8, 3)
labels = torch.randint(0, 8, (320, 8, 8))
images = palette[labels].permute(0, 3, 1, 2) + 0.05 * torch.randn(320, 3, 8, 8)

body = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 8, 1))
optimizer = torch.optim.Adam(body.parameters(), lr=5e-3)
for step in range(1, 201):
    rows = torch.randint(0, 320, (20,))
    scores = body(images[rows]).permute(0, 2, 3, 1)
    log_p = F.log_softmax(scores, dim=-1)
    loss = F.nll_loss(log_p.permute(0, 3, 1, 2).contiguous(), labels[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0:
        share = (scores.argmax(-1) == labels[rows]).float().mean().item()
        print(f"step {step}: loss {loss.item():.4f} pixels right {share:.3f}")
