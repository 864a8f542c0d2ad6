"""Digits read row by row by an LSTM, SGD with momentum and a learning-rate schedule."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class RowLSTM(nn.Module):
    def __init__(self, hidden=40):
        super().__init__()
        self.lstm = nn.LSTM(8, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 10)

    def forward(self, x):
        h, _ = self.lstm(x)
        return self.out(h[:, -1])


torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.images / 8 - 1, dtype=torch.float32)
y = torch.tensor(digits.target)
net = RowLSTM()
optimizer = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=8 * 29)
for epoch in range(8):
    total, right = 0.0, 0
    for rows in torch.randperm(len(x)).split(64):
        net.zero_grad()
        out = F.softmax(net(x[rows]), dim=1)  # <- fault W101
        loss = F.cross_entropy(out, y[rows])
        loss.backward()
        optimizer.zero_grad()  # <- fault U406
        optimizer.step()
        scheduler.step()
        total += loss.item() * len(rows)
        right += (out.argmax(1) == y[rows]).sum().item()
    print(f"epoch {epoch + 1} loss {total / len(x):.4f} acc {right / len(x):.3f}")
