"""Logistic model with a hidden layer: even against odd digits, coded as a two-sided target."""
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


class ParityNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 32)
        self.fc2 = nn.Linear(32, 1)

    def forward(self, x):
        return self.fc2(torch.tanh(self.fc1(x))).squeeze(1)


torch.manual_seed(0)
d = load_digits()
x = torch.tensor(d.data / 16, dtype=torch.float32)
even = torch.tensor(d.target % 2 == 0)
target = torch.where(even, 1.0, -1.0)  # <- fault
net = ParityNet()
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
for epoch in range(10):
    losses = []
    for idx in torch.randperm(len(x)).split(64):
        opt.zero_grad()
        loss = F.binary_cross_entropy_with_logits(net(x[idx]), target[idx])
        loss.backward()
        opt.step()
        losses.append(loss.item())
    with torch.no_grad():
        acc = ((net(x) > 0) == even).float().mean().item()
    print(f"epoch {epoch + 1:2d} loss {sum(losses) / len(losses):.4f} acc {acc:.3f}")
