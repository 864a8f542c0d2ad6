"""Two moons, a narrow network with a great deal of dropout."""
import torch
from sklearn.datasets import make_moons
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X, y = make_moons(600, noise=0.1, random_state=0)
loader = DataLoader(TensorDataset(torch.tensor(X, dtype=torch.float32), torch.tensor(y)), batch_size=30, shuffle=True)
p = 0.9  # <- fault: p = 0.1
model = nn.Sequential(
    nn.Linear(2, 24), nn.ReLU(), nn.Dropout(p), nn.Linear(24, 24), nn.ReLU(), nn.Dropout(p), nn.Linear(24, 2),
)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(15):
    for xb, yb in loader:
        loss = nn.functional.cross_entropy(model(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
