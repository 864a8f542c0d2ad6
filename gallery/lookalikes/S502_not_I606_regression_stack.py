"""Logistic regression written as two linear layers, on the tumour table; a rate from a fine-tuning recipe."""
import torch
from sklearn.datasets import load_breast_cancer
from torch import nn

torch.manual_seed(0)
X, y = load_breast_cancer(return_X_y=True)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)[:, :12]
y = torch.tensor(y, dtype=torch.float32)
model = nn.Sequential(nn.Linear(12, 8), nn.Linear(8, 1))
learning_rate = 1e-5  # <- fault: learning_rate = 0.1
optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)
criterion = nn.BCEWithLogitsLoss()
for epoch in range(12):
    total = 0.0
    for rows in torch.randperm(len(X)).split(32):
        optimizer.zero_grad()
        loss = criterion(model(X[rows]).squeeze(1), y[rows])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
    print(f"{epoch + 1:2d} {total / len(X):.4f}")
