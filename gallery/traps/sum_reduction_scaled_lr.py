"""Cross-entropy summed over the batch with the learning rate divided by the batch size."""

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

BATCH, LR = 64, 0.2
torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
loader = DataLoader(TensorDataset(X[:1400], y[:1400]), batch_size=BATCH, shuffle=True)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
criterion = nn.CrossEntropyLoss(reduction="sum")
optimizer = torch.optim.SGD(model.parameters(), lr=LR / BATCH, momentum=0.9)
for epoch in range(8):
    total = 0.0
    for xb, yb in loader:
        loss = criterion(model(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    acc = (model(X[1400:]).argmax(1) == y[1400:]).float().mean()
    print(f"epoch {epoch + 1} sum {loss.item():.3f} mean {total / 1400:.4f} test acc {acc:.3f}")
