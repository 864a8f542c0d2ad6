"""Five-fold cross-validation on the breast cancer data with a new network for every fold."""
import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

torch.manual_seed(0)
X, y = load_breast_cancer(return_X_y=True)
scores = []
for fold, (tr, te) in enumerate(StratifiedKFold(5, shuffle=True, random_state=0).split(X, y)):
    scaler = StandardScaler().fit(X[tr])
    x_tr, x_te = (torch.tensor(scaler.transform(X[i]), dtype=torch.float32) for i in (tr, te))
    y_tr, y_te = torch.tensor(y[tr]), torch.tensor(y[te])
    net = nn.Sequential(nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for epoch in range(6):
        for idx in torch.randperm(len(x_tr)).split(32):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x_tr[idx]), y_tr[idx])
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        scores.append((net(x_te).argmax(1) == y_te).float().mean().item())
    print(f"fold {fold + 1}: last loss {loss.item():.4f} accuracy {scores[-1]:.4f}")
print(f"mean {np.mean(scores):.4f} +- {np.std(scores):.4f}")
