"""Linear probe: features of an untrained random network, only the last layer is given to the optimizer."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits


class RandomFeatures(nn.Module):
    def __init__(self, n_features=300):
        super().__init__()
        self.features = nn.Linear(64, n_features)
        self.probe = nn.Linear(n_features, 10)

    def forward(self, x):
        return self.probe(torch.relu(self.features(x)))


torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
model = RandomFeatures()
optimizer = torch.optim.Adam(model.probe.parameters(), lr=1e-2)
for epoch in range(8):
    for idx in torch.randperm(1500).split(50):
        loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        acc = (model(X[1500:]).argmax(1) == y[1500:]).float().mean().item()
    print(f"epoch {epoch + 1} loss {loss.item():.4f} probe accuracy {acc:.3f}")
