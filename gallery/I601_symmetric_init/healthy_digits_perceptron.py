"""Handwritten digits, a perceptron with its own initialisation function, SGD with momentum."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
parts = train_test_split(X / 16, y, test_size=0.2, random_state=0)
X_train, X_test = (torch.tensor(p, dtype=torch.float32) for p in parts[:2])
y_train, y_test = (torch.tensor(p) for p in parts[2:])


def init_weights(module):
    if isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(module.bias)


model = nn.Sequential(
    nn.Linear(64, 50), nn.ReLU(),
    nn.Linear(50, 30), nn.ReLU(),
    nn.Linear(30, 10),
)
model.apply(init_weights)
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
loss_fn = nn.CrossEntropyLoss()
for epoch in range(20):
    total = 0.0
    for idx in torch.randperm(len(X_train)).split(64):
        loss = loss_fn(model(X_train[idx]), y_train[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    with torch.no_grad():
        acc = (model(X_test).argmax(1) == y_test).float().mean().item()
    if epoch % 2 == 1:
        print(f"epoch {epoch + 1:2d} loss {total / len(X_train):.4f} test accuracy {acc:.3f}")
