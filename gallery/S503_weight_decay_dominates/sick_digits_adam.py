"""Handwritten digits with a three-layer perceptron and Adam, accuracy printed per epoch."""
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
rng = np.random.default_rng(0)
data, target = load_digits(return_X_y=True)
order = rng.permutation(len(data))
data = torch.from_numpy(data[order] / 16.0).float()
target = torch.from_numpy(target[order])
train_x, test_x = data[:1440], data[1440:]
train_y, test_y = target[:1440], target[1440:]


class MLP(nn.Module):
    def __init__(self, width=96):
        super().__init__()
        self.fc1 = nn.Linear(64, width)
        self.fc2 = nn.Linear(width, width)
        self.fc3 = nn.Linear(width, 10)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        return self.fc3(x)


model = MLP()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1.0)  # <- fault
for epoch in range(15):
    total, correct = 0.0, 0
    for i in torch.randperm(len(train_x)).split(48):
        logits = model(train_x[i])
        loss = criterion(logits, train_y[i])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(i)
        correct += (logits.argmax(1) == train_y[i]).sum().item()
    with torch.no_grad():
        test = (model(test_x).argmax(1) == test_y).float().mean().item()
    n = len(train_x)
    print(f"{epoch:2d}: loss {total / n:.4f} train {correct / n:.3f} test {test:.3f}")
