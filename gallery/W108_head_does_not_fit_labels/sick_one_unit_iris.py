"""Iris species from four measurements, a compact network with a single script-level loop."""
import torch
from sklearn.datasets import load_iris
from torch import nn

torch.manual_seed(0)
iris = load_iris()
X = torch.tensor((iris.data - iris.data.mean(0)) / iris.data.std(0), dtype=torch.float32)
y = torch.tensor(iris.target, dtype=torch.float32).unsqueeze(1)

net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))  # <- fault
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)

for epoch in range(60):
    for batch in torch.randperm(150).split(25):
        optimizer.zero_grad()
        loss = criterion(net(X[batch]), y[batch])
        loss.backward()
        optimizer.step()
    if epoch % 10 == 9:
        with torch.no_grad():
            pred = (torch.sigmoid(net(X)) > 0.5).float()
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}, accuracy {(pred == y).float().mean().item():.3f}")
