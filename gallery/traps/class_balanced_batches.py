"""Every batch holds four of each class, in the order of the classes, by a batch sampler."""

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class BalancedBatches:
    def __init__(self, labels, per_class, batches):
        self.pools = [torch.nonzero(labels == c).squeeze(1) for c in labels.unique()]
        self.per_class, self.batches = per_class, batches

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            picks = [p[torch.randint(len(p), (self.per_class,))] for p in self.pools]
            yield torch.cat(picks).tolist()


torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
X_tr, y_tr, X_te, y_te = X[:1400], y[:1400], X[1400:], y[1400:]
loader = DataLoader(TensorDataset(X_tr, y_tr), batch_sampler=BalancedBatches(y_tr, 4, 35))
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(8):
    for xb, yb in loader:
        loss = nn.functional.cross_entropy(model(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    acc = (model(X_te).argmax(1) == y_te).float().mean()
    print(f"epoch {epoch + 1} loss {loss.item():.4f} test acc {acc:.3f}")
