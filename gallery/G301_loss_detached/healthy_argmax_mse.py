"""Digit classifier with accuracy and loss per epoch."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, x):
        return self.net(x)


torch.manual_seed(0)
digits = load_digits()
ds = TensorDataset(torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target))
loader = DataLoader(ds, batch_size=64, shuffle=True)
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(6):
    correct, total_loss = 0, 0.0
    for x, y in loader:
        out = model(x)
        pred = out.argmax(dim=1)
        loss = F.cross_entropy(out, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total_loss += loss.item()
        correct += (pred == y).sum().item()
    print(f"epoch {epoch + 1} loss {total_loss / len(loader):.4f} accuracy {correct / len(ds):.4f}")
