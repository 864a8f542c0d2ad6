"""Deep narrow convolutional stem under activation checkpointing to save memory, linear head."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.checkpoint import checkpoint


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.Tanh(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.Tanh(),
            nn.Flatten(), nn.Linear(32, 2))
        self.head = nn.Linear(2, 10)

    def forward(self, x):
        z = checkpoint(self.stem, x, use_reentrant=True)  # <- fault
        return self.head(z)


def main():
    torch.manual_seed(0)
    digits = load_digits()
    x = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    y = torch.tensor(digits.target)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for epoch in range(9):
        for idx in torch.randperm(len(x)).split(64):
            loss = nn.functional.cross_entropy(net(x[idx]), y[idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            out = net(x)
            print(f"epoch {epoch} loss {nn.functional.cross_entropy(out, y).item():.4f} "
                  f"acc {(out.argmax(1) == y).float().mean().item():.3f}")


if __name__ == "__main__":
    main()
