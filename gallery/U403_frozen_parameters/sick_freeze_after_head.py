"""Transfer learning: reuse the pretrained body, put a new head on it, freeze the rest."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(2)
digits = load_digits()
x = torch.tensor(digits.data / 16, dtype=torch.float32)
y = torch.tensor(digits.target)
criterion = nn.CrossEntropyLoss()


def fit(model, loader, epochs, lr):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for epoch in range(epochs):
        total, n = 0.0, 0
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = criterion(model(xb), yb)
            loss.backward()
            optimizer.step()
            total, n = total + loss.item() * len(yb), n + len(yb)
        print(f"epoch {epoch + 1}/{epochs}  loss {total / n:.4f}")


body = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 48), nn.ReLU())
model = nn.Sequential(body, nn.Linear(48, 5))
fit(model, DataLoader(TensorDataset(x, y // 2), 64, shuffle=True), 5, 2e-3)

model[1] = nn.Linear(48, 10)
for p in model.parameters():
    p.requires_grad = False  # <- fault
fit(model, DataLoader(TensorDataset(x, y), 64, shuffle=True), 10, 1e-2)
with torch.no_grad():
    print("accuracy", (model(x).argmax(1) == y).float().mean().item())
