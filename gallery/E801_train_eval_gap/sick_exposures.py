"""Digits photographed at varying exposure; fully convolutional network with a DataLoader."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


def conv(n_in, n_out):
    return [nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]


class Net(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.body = nn.Sequential(*conv(1, 16), nn.MaxPool2d(2), *conv(16, 32), nn.MaxPool2d(2))
        self.head = nn.Linear(128, classes)

    def forward(self, x):
        return self.head(self.body(x).flatten(1))


torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
exposure = torch.randn(len(images), 1, 1, 1)
images = images * (0.7 * exposure).exp() + 2 * torch.randn(len(images), 1, 1, 1)
labels = torch.tensor(digits.target)
train_set = TensorDataset(images[:700], labels[:700])
loader = DataLoader(train_set, batch_size=1, shuffle=True)  # <- fault

net = Net()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(3):
    net.train()
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
    net.eval()
    with torch.no_grad():
        out = net(images)
        acc = (out.argmax(1) == labels).float()
    print(f"epoch {epoch + 1} train loss {total / len(train_set):.4f} "
          f"acc seen {acc[:700].mean():.3f} held out {acc[700:].mean():.3f}")
