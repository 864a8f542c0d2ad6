"""Five substances in generated spectra: position of a small band on a drifting baseline."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def spectra(n, rng, channels=60, substances=5):
    axis = np.linspace(0, 1, channels)
    label = rng.integers(substances, size=n)
    centre = (0.15 + 0.17 * label)[:, None]
    band = 0.17 * np.exp(-((axis - centre) / 0.05) ** 2)
    level = rng.normal(size=(n, 1))
    slope = rng.normal(size=(n, 1)) * (axis - 0.5)
    noise = 0.01 * rng.standard_normal((n, channels))
    return band + level + slope + noise, label


class Network(nn.Module):
    def __init__(self, channels, classes, hidden=32):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU())
        self.head = nn.Linear(hidden, classes)

    def forward(self, x):
        return self.head(self.body(x))


def main():
    torch.manual_seed(0)
    x, y = spectra(1200, np.random.default_rng(0))
    x = torch.tensor(x - x.mean(axis=0), dtype=torch.float32)
    loader = DataLoader(TensorDataset(x, torch.tensor(y)), batch_size=40, shuffle=True)
    model = Network(60, 5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)  # <- fault
    for epoch in range(16):
        losses, hits = [], 0
        for xb, yb in loader:
            logits = model(xb)
            loss = nn.functional.cross_entropy(logits, yb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            hits += (logits.argmax(1) == yb).sum().item()
        print(f"epoch {epoch:2d} loss {np.mean(losses):.4f} accuracy {hits / len(x):.3f}")


if __name__ == "__main__":
    main()
