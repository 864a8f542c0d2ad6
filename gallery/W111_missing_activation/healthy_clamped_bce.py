"""Odd or even digit, with a clipped binary cross-entropy of our own."""
import torch
from sklearn.datasets import load_digits

EPS = 1e-7


def binary_crossentropy(y_true, y_pred):
    y_pred = torch.clamp(y_pred, EPS, 1 - EPS)
    return -torch.mean(y_true * torch.log(y_pred) + (1 - y_true) * torch.log(1 - y_pred))


torch.manual_seed(0)
digits = load_digits()
X = torch.tensor((digits.data - 5) / 6, dtype=torch.float32)
y = torch.tensor(digits.target % 2, dtype=torch.float32)[:, None]

model = torch.nn.Sequential(
    torch.nn.Linear(64, 32),
    torch.nn.ReLU(),
    torch.nn.Linear(32, 1),
    torch.nn.Sigmoid(),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(12):
    history = []
    for rows in torch.randperm(1797).split(64):
        loss = binary_crossentropy(y[rows], model(X[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    acc = ((model(X) > 0.5) == (y > 0.5)).float().mean().item()
    print("epoch %2d - loss: %.4f - accuracy: %.4f" % (epoch + 1, sum(history) / len(history), acc))
