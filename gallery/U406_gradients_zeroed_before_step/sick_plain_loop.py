"""Wine classification, full batch, Adam."""
import torch
import torch.nn as nn
from sklearn.datasets import load_wine

torch.manual_seed(0)
wine = load_wine()
X = torch.tensor(wine.data, dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)
y = torch.tensor(wine.target)
model = nn.Sequential(nn.Linear(13, 20), nn.ReLU(), nn.Linear(20, 3))
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for t in range(200):
    y_pred = model(X)
    loss = loss_fn(y_pred, y)
    loss.backward()
    optimizer.zero_grad()  # <- fault
    optimizer.step()
    if t % 25 == 24:
        print(t + 1, round(loss.item(), 4), round((y_pred.argmax(1) == y).float().mean().item(), 3))
