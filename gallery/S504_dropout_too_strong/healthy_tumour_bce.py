"""Benign or malignant from thirty measurements, binary cross-entropy with logits."""
import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

torch.manual_seed(7)
X, y = load_breast_cancer(return_X_y=True)
X = (X - X.mean(axis=0)) / X.std(axis=0)
X_train, X_val, y_train, y_val = (
    torch.tensor(a, dtype=torch.float32)
    for a in train_test_split(X, y, test_size=0.25, random_state=7, stratify=y)
)

DROP = 0.2
model = nn.Sequential(
    nn.Linear(30, 64), nn.ReLU(), nn.Dropout(DROP),
    nn.Linear(64, 64), nn.ReLU(), nn.Dropout(DROP),
    nn.Linear(64, 1),
)
bce = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

for epoch in range(1, 41):
    model.train()
    total = 0.0
    for idx in torch.randperm(len(X_train)).split(32):
        logit = model(X_train[idx]).squeeze(1)
        loss = bce(logit, y_train[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    if epoch % 5 == 0:
        model.eval()
        with torch.no_grad():
            val = bce(model(X_val).squeeze(1), y_val).item()
        print(f"epoch {epoch:2d}  train {total / len(X_train):.4f}  val {val:.4f}")
