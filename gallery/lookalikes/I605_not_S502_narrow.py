"""Which ring does a point lie on: ReLU layers of two units each."""
import torch
from sklearn.datasets import make_circles
from torch import nn

torch.manual_seed(0)
X, y = make_circles(600, noise=0.08, factor=0.4, random_state=1)
X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
width = 2  # <- fault: width = 32
model = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(20):
    for rows in torch.randperm(600).split(40):
        loss = nn.functional.cross_entropy(model(X[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
