"""All weights in bfloat16, with a learning rate large enough for its spacing."""

import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.bfloat16), torch.tensor(y)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).to(torch.bfloat16)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for epoch in range(1, 11):
    total = 0.0
    for idx in torch.randperm(1400).split(64):
        loss = nn.functional.cross_entropy(model(X[idx]).float(), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    with torch.no_grad():
        acc = (model(X[1400:]).argmax(1) == y[1400:]).float().mean()
    print(f"epoch {epoch} loss {total / 1400:.4f} test acc {acc:.3f}")
