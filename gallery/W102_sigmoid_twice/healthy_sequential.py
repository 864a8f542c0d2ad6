"""Detect the digit 8 among all digits (binary classification, rare positives)."""
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler
from torch import nn

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X = torch.tensor(StandardScaler().fit_transform(X), dtype=torch.float32)
y = torch.tensor((y == 8).astype("float32")).unsqueeze(1)
X_train, y_train, X_val, y_val = X[:1400], y[:1400], X[1400:], y[1400:]

model = nn.Sequential(
    nn.Linear(64, 32), nn.ReLU(),
    nn.Linear(32, 16), nn.ReLU(),
    nn.Linear(16, 1),
)
loss_fn = nn.BCEWithLogitsLoss()
opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

for epoch in range(15):
    order = torch.randperm(len(X_train))
    for chunk in order.split(50):
        opt.zero_grad()
        loss = loss_fn(model(X_train[chunk]), y_train[chunk])
        loss.backward()
        opt.step()
    with torch.no_grad():
        out = model(X_val)
        val = loss_fn(out, y_val).item()
        pred = (out > 0.0).int()
    print(f"epoch {epoch:2d} val loss {val:.4f} F1 {f1_score(y_val, pred, zero_division=0):.3f}")
