"""Convolutional network on the digits with parameter groups and dropout."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset, random_split


class Net(nn.Module):
    def __init__(self, drop):
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3)
        self.squeeze = nn.Linear(144, 12)
        self.fc = nn.Linear(12, 48)
        self.out = nn.Linear(48, 10)
        self.drop = drop

    def forward(self, x):
        h = F.max_pool2d(F.relu(self.conv(x)), 2).flatten(1)
        h = F.dropout(F.relu(self.fc(torch.tanh(self.squeeze(h)))), self.drop, self.training)
        return self.out(h)


torch.manual_seed(1)
digits = load_digits()
data = TensorDataset(torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16,
                     torch.tensor(digits.target))
train_set, test_set = random_split(data, [1400, 397])
loader = DataLoader(train_set, batch_size=50, shuffle=True)
test_x, test_y = test_set[:]
net = Net(drop=0.97)  # <- fault S504
optimizer = torch.optim.SGD([
    {"params": net.out.bias, "lr": 0.1},  # <- fault U402
], lr=0.05, momentum=0.9)
for epoch in range(8):
    net.train()
    total = 0.0
    for x, y in loader:
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
    net.eval()
    with torch.no_grad():
        acc = (net(test_x).argmax(1) == test_y).float().mean().item()
    print(f"epoch {epoch + 1} train loss {total / 1400:.4f} test acc {acc:.3f}")
