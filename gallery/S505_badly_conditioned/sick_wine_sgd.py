"""Wine cultivars from a chemical table: two layers, plain SGD, mini-batches."""
import torch
import torch.nn as nn
from sklearn.datasets import load_wine

torch.manual_seed(0)
table = load_wine()
X = torch.tensor(table.data, dtype=torch.float32)
y = torch.tensor(table.target)
X = (X - X.mean(0)) / X.std()  # <- fault

model = nn.Sequential(nn.Linear(13, 32), nn.Tanh(), nn.Linear(32, 3))
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.3)

for epoch in range(1, 61):
    total, correct = 0.0, 0
    for idx in torch.randperm(len(X)).split(30):
        out = model(X[idx])
        loss = loss_fn(out, y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
        correct += (out.argmax(1) == y[idx]).sum().item()
    if epoch % 6 == 0:
        print(f"epoch {epoch:2d}  loss {total / len(X):.4f}  acc {correct / len(X):.3f}")
