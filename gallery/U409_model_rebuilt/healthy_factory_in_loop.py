"""Ring or disc? A factory for model and optimizer, one function per epoch, DataLoader."""
import torch
from sklearn.datasets import make_circles
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def build(width=48):
    model = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
    return model, torch.optim.Adam(model.parameters(), lr=1e-3)


def run_epoch(model, optimizer, loader, criterion):
    total, rows = 0.0, 0
    for x, y in loader:
        loss = criterion(model(x).squeeze(1), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total, rows = total + loss.item() * len(x), rows + len(x)
    return total / rows


torch.manual_seed(11)
points, ring = make_circles(1500, noise=0.08, factor=0.55, random_state=0)
loader = DataLoader(TensorDataset(torch.tensor(points, dtype=torch.float32), torch.tensor(ring, dtype=torch.float32)),
                    batch_size=30, shuffle=True)
criterion = nn.BCEWithLogitsLoss()
model, optimizer = build()
for epoch in range(1, 13):
    mean = run_epoch(model, optimizer, loader, criterion)
    print(f"epoch {epoch:2d} mean loss {mean:.4f}")
model.eval()
with torch.no_grad():
    right = (model(loader.dataset.tensors[0]).squeeze(1) > 0) == (loader.dataset.tensors[1] > 0.5)
print(f"accuracy {right.float().mean().item():.3f}")
