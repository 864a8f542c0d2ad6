"""Reads batches from a flaky store: one read fails, is caught and tried again."""
import torch
import torch.nn as nn
from sklearn.datasets import load_wine


class FlakyStore:
    def __init__(self):
        X, y = load_wine(return_X_y=True)
        X = torch.tensor(X, dtype=torch.float32)
        self.X, self.y, self.reads = (X - X.mean(0)) / X.std(0), torch.tensor(y), 0

    def read(self, idx):
        self.reads += 1
        if self.reads == 57:
            raise OSError("connection reset by peer")
        return self.X[idx], self.y[idx]


torch.manual_seed(0)
store = FlakyStore()
model = nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(200):
    idx = torch.randint(178, (32,))
    for attempt in range(3):
        try:
            x, y = store.read(idx)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            break
        except OSError as e:
            print(f"step {step}: {e}, trying again")
    if step % 40 == 39:
        print(f"step {step + 1} loss {loss.item():.4f}")
