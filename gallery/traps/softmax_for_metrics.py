"""Digits classifier that reports mean confidence and top-2 accuracy from softmax probabilities."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X).float() / 16, torch.tensor(y)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
softmax = nn.Softmax(dim=1)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

for epoch in range(8):
    losses, confidences, top2 = [], [], []
    for rows in torch.randperm(len(X)).split(64):
        logits = model(X[rows])
        probs = softmax(logits)
        loss = criterion(logits, y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        confidences.append(probs.max(dim=1).values.mean().item())
        top2.append((probs.topk(2, dim=1).indices == y[rows, None]).any(dim=1).float().mean().item())
    n = len(losses)
    print(f"epoch {epoch}: loss {sum(losses) / n:.4f} confidence {sum(confidences) / n:.3f} top-2 {sum(top2) / n:.3f}")
