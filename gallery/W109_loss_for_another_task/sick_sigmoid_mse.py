"""Classic three-layer sigmoid network on digits, trained with SGD."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(0)
pixels, labels = load_digits(return_X_y=True)
pixels = torch.tensor(pixels, dtype=torch.float32) / 16
labels = torch.tensor(labels)
targets = F.one_hot(labels, 10).float()

net = nn.Sequential(
    nn.Linear(64, 40), nn.Sigmoid(),
    nn.Linear(40, 10),
    nn.Sigmoid(),
)
criterion = nn.MSELoss()  # <- fault
optimizer = torch.optim.SGD(net.parameters(), lr=0.5)

for epoch in range(15):
    total = 0.0
    for idx in torch.randperm(len(pixels)).split(60):
        optimizer.zero_grad()
        loss = criterion(net(pixels[idx]), targets[idx])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    with torch.no_grad():
        acc = (net(pixels).argmax(1) == labels).float().mean().item()
    print(f"epoch {epoch:2d} cost {total / len(pixels):.4f} accuracy {acc:.4f}")
