"""Iris species with a small network, one-hot targets and sigmoid outputs."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_iris
from torch.utils.data import DataLoader, TensorDataset

N_UNITS = 1  # <- fault W108


class IrisNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(4, 20)
        self.fc2 = nn.Linear(20, N_UNITS)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


torch.manual_seed(0)
iris = load_iris()
x = torch.tensor((iris.data - iris.data.mean(0)) / iris.data.std(0), dtype=torch.float32)
species = F.one_hot(torch.tensor(iris.target), 3).float()
loader = DataLoader(TensorDataset(x, species), batch_size=15, shuffle=True)
net = IrisNet()
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
for epoch in range(30):
    losses, right = [], 0
    for xb, yb in loader:
        scores = net(xb).expand(-1, 3)
        probs = torch.tensor(torch.sigmoid(scores).tolist(), requires_grad=True)  # <- fault G301
        loss = F.binary_cross_entropy(probs, yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        right += (scores.argmax(1) == yb.argmax(1)).sum().item()
    if epoch % 3 == 2:
        print(f"epoch {epoch + 1:2d} loss {sum(losses) / len(losses):.4f} acc {right / 150:.3f}")
