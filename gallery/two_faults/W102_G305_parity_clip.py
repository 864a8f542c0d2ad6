"""Odd or even digit: one logit, gradient clipping, plain SGD and a DataLoader."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class OddEven(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 48)
        self.fc2 = nn.Linear(48, 1)
        nn.init.constant_(self.fc2.bias, 1.0)

    def forward(self, x):
        z = self.fc2(torch.relu(self.fc1(x))).squeeze(1)
        return torch.sigmoid(z)  # <- fault W102


def train_one_epoch(net, loader, criterion, optimizer):
    net.train()
    running = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1e-5)  # <- fault G305
        optimizer.step()
        running += loss.item() * len(y)
    return running / len(loader.dataset)


torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data / 8 - 1, dtype=torch.float32)
y = torch.tensor(digits.target % 2, dtype=torch.float32)
loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
net = OddEven()
optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
for epoch in range(12):
    loss = train_one_epoch(net, loader, nn.BCEWithLogitsLoss(), optimizer)
    print(f"epoch {epoch + 1} loss {loss:.4f}")
