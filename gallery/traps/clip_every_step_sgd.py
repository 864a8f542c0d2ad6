"""Cross-entropy summed over the batch, SGD with momentum, gradient clipped at every step."""

import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
X, Xv, y, yv = X[:1400], X[1400:], y[:1400], y[1400:]
model = nn.Sequential(
    nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
criterion = nn.CrossEntropyLoss(reduction="sum")
clipped = steps = 0
for epoch in range(10):
    for idx in torch.randperm(len(X)).split(32):
        optimizer.zero_grad()
        loss = criterion(model(X[idx]), y[idx])
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        clipped += int(norm > 1.0)
        steps += 1
        optimizer.step()
    acc = (model(Xv).argmax(1) == yv).float().mean()
    print(f"epoch {epoch + 1} loss {loss / len(idx):.4f} acc {acc:.3f} clipped {clipped}/{steps}")
