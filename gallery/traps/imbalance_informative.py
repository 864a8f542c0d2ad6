"""Five positives in a hundred with informative features, plain cross-entropy, no weights."""

import torch
import torch.nn as nn
from sklearn.datasets import make_classification
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X, y = make_classification(
    4000, 12, n_informative=8, weights=[0.95], flip_y=0.0, class_sep=1.6, random_state=4
)
X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
print(f"share of positives {y.float().mean():.3f}")
loader = DataLoader(TensorDataset(X[:3000], y[:3000]), batch_size=64, shuffle=True)
model = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for epoch in range(1, 13):
    for xb, yb in loader:
        loss = nn.functional.cross_entropy(model(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 2 == 0:
        pred = model(X[3000:]).argmax(1)
        truth = y[3000:]
        recall = (pred[truth == 1] == 1).float().mean()
        acc = (pred == truth).float().mean()
        print(f"epoch {epoch} loss {loss.item():.4f} acc {acc:.3f} minority recall {recall:.3f}")
