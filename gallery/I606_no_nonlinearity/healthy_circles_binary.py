"""Two rings in the plane, told apart by a three-layer network with a binary loss."""
import torch
import torch.nn as nn
from sklearn.datasets import make_circles

torch.manual_seed(0)
points, ring = make_circles(1200, noise=0.08, factor=0.45, random_state=0)
x = torch.tensor(points, dtype=torch.float32)
y = torch.tensor(ring, dtype=torch.float32).unsqueeze(1)

model = nn.Sequential(
    nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1),
)
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for epoch in range(30):
    total = 0.0
    for idx in torch.randperm(len(x)).split(40):
        optimizer.zero_grad()
        loss = criterion(model(x[idx]), y[idx])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    if epoch % 3 == 2:
        with torch.no_grad():
            acc = ((model(x) > 0) == (y > 0.5)).float().mean().item()
        print(f"epoch {epoch + 1:2d} loss {total / len(x):.4f} acc {acc:.3f}")
