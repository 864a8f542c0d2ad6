"""One-vs-rest detectors for all ten digits, positives weighted nine to one."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, T = torch.tensor(X).float() / 16, F.one_hot(torch.tensor(y), 10).float()
pos = T.mean(0)
loss_fn = nn.BCEWithLogitsLoss(pos_weight=(1 - pos) / pos)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(10):
    for i in torch.randperm(len(X)).split(64):
        loss = loss_fn(model(X[i]), T[i])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    hit = (model(X) > 0).float()
    print(f"epoch {epoch}: loss {loss.item():.4f} recall {(hit * T).sum() / T.sum():.3f} "
          f"precision {(hit * T).sum() / hit.sum():.3f}")
