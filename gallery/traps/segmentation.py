"""Binary-plus-void segmentation of digit strokes with (N, C, H, W) logits and ignore_index borders."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
imgs = torch.tensor(load_digits().images).float().unsqueeze(1) / 16
mask = (imgs.squeeze(1) > 0.3).long() + (imgs.squeeze(1) > 0.8).long()
mask[:, 0, :] = mask[:, -1, :] = 255
noisy = imgs + 0.15 * torch.randn_like(imgs)
unet = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
    nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 1),
)
criterion = nn.CrossEntropyLoss(ignore_index=255)
optimizer = torch.optim.Adam(unet.parameters(), lr=5e-3)
for step in range(1, 161):
    i = torch.randint(len(imgs), (32,))
    out = unet(noisy[i])
    loss = criterion(out, mask[i])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0:
        valid = mask[i] != 255
        print(f"step {step}: loss {loss.item():.4f} pixel acc {(out.argmax(1) == mask[i])[valid].float().mean():.3f}")
