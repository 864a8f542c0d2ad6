"""Wine cultivar predictions with a tanh network, full batch."""
import torch
import torch.nn as nn
from sklearn.datasets import load_wine

torch.manual_seed(0)
wine = load_wine()
X = torch.tensor(wine.data, dtype=torch.float32)
X = (X - X.mean(dim=0)) / X.std(dim=0)
labels = torch.tensor(wine.target)

model = nn.Sequential(nn.Linear(13, 20), nn.Tanh(), nn.Linear(20, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
loss_fn = nn.CrossEntropyLoss()


def accuracy():
    with torch.no_grad():
        out = model(X)
        return (out.argmax(1) == labels).float().mean().item()


for epoch in range(1, 301):
    optimizer.zero_grad()
    out = model(X)
    loss = loss_fn(out, labels)
    loss.backward()
    optimizer.step()
    if epoch % 50 == 0:
        print("epoch", epoch, "loss %.4f" % loss.item(), "acc %.3f" % accuracy())
