"""Per-pixel labelling of 8x8 images into eight grey levels, from a blurred copy."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

LEVELS = 8
torch.manual_seed(0)
imgs = torch.tensor(load_digits().images, dtype=torch.float32)
labels = (imgs / 2.001).long().clamp(max=LEVELS - 1)
blurred = F.avg_pool2d(imgs.unsqueeze(1) / 16, 3, stride=1, padding=1)
noisy = torch.cat([imgs.unsqueeze(1) / 16 + 0.1 * torch.randn(len(imgs), 1, 8, 8), blurred], dim=1)


class FCN(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.enc = nn.Sequential(nn.Conv2d(2, width, 3, padding=1), nn.ReLU(),
                                 nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        self.per_pixel = nn.Linear(width, LEVELS)

    def forward(self, x):
        feats = self.enc(x).permute(0, 2, 3, 1)
        return self.per_pixel(feats)  # <- fault


loader = DataLoader(TensorDataset(noisy, labels), batch_size=32, shuffle=True)
model = FCN()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(4):
    losses, pix = [], []
    for x, y in loader:
        out = model(x)
        loss = criterion(out, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        pix.append((out.argmax(-1) == y).float().mean().item())
    print(f"epoch {epoch + 1}  loss {sum(losses) / len(losses):.4f}  pixel accuracy {sum(pix) / len(pix):.4f}")
