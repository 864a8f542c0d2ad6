"""Breast cancer diagnosis with a small network and binary cross-entropy."""
import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

torch.manual_seed(0)
X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=1)
sc = StandardScaler().fit(X_train)
X_train = torch.FloatTensor(sc.transform(X_train))
X_test = torch.FloatTensor(sc.transform(X_test))
y_train = torch.FloatTensor(y_train).view(-1, 1)
y_test = torch.FloatTensor(y_test).view(-1, 1)

model = nn.Sequential(
    nn.Linear(30, 16),
    nn.ReLU(),
    nn.Linear(16, 1),
    nn.Softmax(dim=1),  # <- fault
)
criterion = nn.BCELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

for epoch in range(1, 201):
    optimizer.zero_grad()
    p = model(X_train)
    loss = criterion(p, y_train)
    loss.backward()
    optimizer.step()
    if epoch % 25 == 0:
        acc = ((model(X_test) > 0.5).float() == y_test).float().mean().item()
        print(f"epoch {epoch:3d}: loss={loss.item():.4f} test accuracy={acc:.4f}")
