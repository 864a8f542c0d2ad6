"""Super-convergence: one-cycle schedule up to a learning rate of 1.0 with BatchNorm."""

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
loader = DataLoader(TensorDataset(X[:1400], y[:1400]), batch_size=100, shuffle=True)
EPOCHS = 15
model = nn.Sequential(
    nn.Linear(64, 64, bias=False),
    nn.BatchNorm1d(64),
    nn.ReLU(),
    nn.Linear(64, 64, bias=False),
    nn.BatchNorm1d(64),
    nn.ReLU(),
    nn.Linear(64, 10),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
scheduler = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=1.0, epochs=EPOCHS, steps_per_epoch=len(loader), anneal_strategy="cos"
)
for epoch in range(EPOCHS):
    model.train()
    worst = 0.0
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(xb), yb)
        loss.backward()
        optimizer.step()
        scheduler.step()
        worst = max(worst, loss.item())
    model.eval()
    acc = (model(X[1400:]).argmax(1) == y[1400:]).float().mean()
    lr = scheduler.get_last_lr()[0]
    print(f"epoch {epoch + 1} lr {lr:.3f} worst {worst:.3f} last {loss.item():.3f} acc {acc:.3f}")
