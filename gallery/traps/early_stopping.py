"""Early stopping with patience; the best weights are put back at the end."""
import copy

import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

torch.manual_seed(0)
X, y = load_breast_cancer(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
x_tr, x_va, y_tr, y_va = (torch.tensor(a) for a in train_test_split(X.astype("float32"), y, test_size=0.4, random_state=3))
model = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
best, best_state, bad, patience = float("inf"), None, 0, 4
for epoch in range(40):
    model.train()
    for idx in torch.randperm(len(x_tr)).split(32):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x_tr[idx]), y_tr[idx])
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        val = nn.functional.cross_entropy(model(x_va), y_va).item()
    print(f"epoch {epoch + 1} val loss {val:.4f}")
    if val < best:
        best, best_state, bad = val, copy.deepcopy(model.state_dict()), 0
    else:
        bad += 1
        if bad == patience:
            print("stopping early")
            break
model.load_state_dict(best_state)
with torch.no_grad():
    print(f"best {best:.4f} acc {(model(x_va).argmax(1) == y_va).float().mean().item():.3f}")
