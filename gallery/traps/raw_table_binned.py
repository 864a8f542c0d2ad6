"""Raw tabular columns of very different size, cut into quantile bins that index an embedding."""

import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split


class BinnedTable(nn.Module):
    def __init__(self, x_train, classes, bins=8, dim=6):
        super().__init__()
        q = np.quantile(x_train, np.linspace(0, 1, bins + 1)[1:-1], axis=0).T
        self.register_buffer("edges", torch.tensor(np.ascontiguousarray(q), dtype=torch.float32))
        self.register_buffer("offset", torch.arange(x_train.shape[1]) * bins)
        self.embed = nn.Embedding(bins * x_train.shape[1], dim)
        self.head = nn.Sequential(
            nn.Linear(dim * x_train.shape[1], 32), nn.ReLU(), nn.Linear(32, classes)
        )

    def forward(self, x):
        bins = torch.searchsorted(self.edges, x.T.contiguous()).T
        return self.head(self.embed(bins + self.offset).flatten(1))


torch.manual_seed(0)
X, y = load_wine(return_X_y=True)
X = np.hstack([X, X[:, -1:] * 1e3])
X_tr, X_te, y_tr, y_te = train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)
X_tr, X_te = torch.tensor(X_tr, dtype=torch.float32), torch.tensor(X_te, dtype=torch.float32)
y_tr, y_te = torch.tensor(y_tr), torch.tensor(y_te)
model = BinnedTable(X_tr.numpy(), 3)
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(1, 31):
    for idx in torch.randperm(len(X_tr)).split(16):
        loss = nn.functional.cross_entropy(model(X_tr[idx]), y_tr[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 5 == 0:
        acc = (model(X_te).argmax(1) == y_te).float().mean()
        print(f"epoch {epoch} loss {loss.item():.4f} test acc {acc:.3f}")
