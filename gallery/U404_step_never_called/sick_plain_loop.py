"""Iris, three classes, plain SGD loop."""
import torch
import torch.nn as nn
from sklearn.datasets import load_iris

torch.manual_seed(42)
iris = load_iris()
X = torch.FloatTensor(iris.data)
X = (X - X.mean(dim=0)) / X.std(dim=0)
y = torch.LongTensor(iris.target)

model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

for epoch in range(200):
    optimizer.zero_grad()
    outputs = model(X)
    loss = criterion(outputs, y)
    loss.backward()  # <- fault
    if (epoch + 1) % 20 == 0:
        acc = (outputs.argmax(1) == y).float().mean()
        print(f"Epoch [{epoch + 1}/200], Loss: {loss.item():.4f}, Acc: {acc.item():.3f}")
