"""Defect patterns on generated wafer maps: CNN class with reset_parameters, DataLoader, Adam."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def wafer_maps(n, size=12):
    label = torch.randint(5, (n,))
    axis = torch.linspace(-1, 1, size)
    row, col = torch.meshgrid(axis, axis, indexing="ij")
    radius = (row ** 2 + col ** 2).sqrt()
    masks = torch.stack([
        radius < 0.45, (radius - 0.8).abs() < 0.2, (row - col).abs() < 0.25,
        row.abs() < 0.25, col.abs() < 0.25,
    ]).float()
    return (masks[label] * 0.8 + 0.4 * torch.randn(n, size, size)).unsqueeze(1), label


class DefectNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.fc1 = nn.Linear(144, 32)
        self.fc2 = nn.Linear(32, 5)
        self.reset_parameters()

    def reset_parameters(self):
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.kaiming_uniform_(p)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x)).flatten(1)
        return self.fc2(F.relu(self.fc1(x)))


def main():
    torch.manual_seed(4)
    loader = DataLoader(TensorDataset(*wafer_maps(1000)), batch_size=50, shuffle=True)
    net = DefectNet()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for epoch in range(8):
        hits = total = 0
        for x, y in loader:
            out = net(x)
            loss = F.cross_entropy(out, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
            hits += (out.argmax(1) == y).sum().item()
        print(f"epoch {epoch + 1:2d} loss {total / 1000:.4f} accuracy {hits / 1000:.3f}")


if __name__ == "__main__":
    main()
