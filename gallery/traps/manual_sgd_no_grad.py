"""Hand-written SGD on the parameters of a module, under no_grad."""
import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer

torch.manual_seed(0)
X, y = load_breast_cancer(return_X_y=True)
X = torch.tensor(X, dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)
y = torch.tensor(y, dtype=torch.float32)
model = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1))
lr = 0.1
for step in range(300):
    idx = torch.randint(len(X), (64,))
    loss = nn.functional.binary_cross_entropy_with_logits(model(X[idx])[:, 0], y[idx])
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= lr * p.grad
            p.grad.zero_()
    if step % 50 == 49:
        print(f"step {step + 1} loss {loss.item():.4f}")
