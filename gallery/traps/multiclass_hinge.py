"""A linear support vector machine for digits: multi-class hinge loss and weight decay."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X).float() / 16, torch.tensor(y)
svm = nn.Linear(64, 10)
hinge = nn.MultiMarginLoss()
opt = torch.optim.SGD(svm.parameters(), lr=0.5, momentum=0.9, weight_decay=1e-4)
for epoch in range(8):
    total = 0.0
    for i in torch.randperm(len(X)).split(64):
        loss = hinge(svm(X[i]), y[i])
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item() * len(i)
    print(f"epoch {epoch}: hinge {total / len(X):.4f} acc {(svm(X).argmax(1) == y).float().mean():.3f}")
