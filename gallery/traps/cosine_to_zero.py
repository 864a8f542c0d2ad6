"""Wine, cosine schedule down to zero; the last epochs hardly change anything any more."""
import torch
import torch.nn as nn
from sklearn.datasets import load_wine

EPOCHS = 40
torch.manual_seed(0)
X, y = load_wine(return_X_y=True)
X = torch.tensor(X, dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)
y = torch.tensor(y)
model = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS - 4, eta_min=0.0)
for epoch in range(EPOCHS):
    total = 0.0
    for idx in torch.randperm(len(X)).split(16):
        loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    if epoch < EPOCHS - 4:
        scheduler.step()
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1} lr {optimizer.param_groups[0]['lr']:.5f} loss {total / len(X):.4f}")
