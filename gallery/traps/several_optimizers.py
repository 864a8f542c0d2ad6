"""One model, two optimizers: SGD for the convolutions, Adam for the rest."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.fc = nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x):
        return self.fc(self.conv(x))


torch.manual_seed(0)
d = load_digits()
x, y = torch.tensor(d.images / 16, dtype=torch.float32)[:, None], torch.tensor(d.target)
net = Net()
optimizers = [torch.optim.SGD(net.conv.parameters(), lr=0.05, momentum=0.9), torch.optim.Adam(net.fc.parameters(), lr=2e-3)]
for epoch in range(6):
    total = 0.0
    for idx in torch.randperm(len(x)).split(50):
        loss = nn.functional.cross_entropy(net(x[idx]), y[idx])
        for o in optimizers:
            o.zero_grad()
        loss.backward()
        for o in optimizers:
            o.step()
        total += loss.item() * len(idx)
    print(f"epoch {epoch + 1} loss {total / len(x):.4f}")
