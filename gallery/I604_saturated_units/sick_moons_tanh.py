"""Two moons with a tanh network, binary cross-entropy, mini-batches from a DataLoader."""
import torch
import torch.nn as nn
from sklearn.datasets import make_moons
from torch.utils.data import DataLoader, TensorDataset


class TanhNet(nn.Module):
    def __init__(self, hidden=24):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, hidden), nn.Tanh(),
            nn.Linear(hidden, hidden), nn.Tanh(),
            nn.Linear(hidden, 1),
        )
        for layer in self.layers[:-1]:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.constant_(layer.bias, 12.0)  # <- fault

    def forward(self, x):
        return self.layers(x).squeeze(-1)


def main():
    torch.manual_seed(0)
    points, labels = make_moons(n_samples=800, noise=0.15, random_state=0)
    x = torch.tensor(points, dtype=torch.float32)
    y = torch.tensor(labels, dtype=torch.float32)
    x = (x - x.mean(0)) / x.std(0)
    loader = DataLoader(TensorDataset(x, y), batch_size=40, shuffle=True)
    model = TanhNet()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3)
    criterion = nn.BCEWithLogitsLoss()
    for epoch in range(1, 31):
        total = 0.0
        for xb, yb in loader:
            loss = criterion(model(xb), yb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        if epoch % 3 == 0:
            with torch.no_grad():
                acc = ((model(x) > 0).float() == y).float().mean().item()
            print(f"epoch {epoch:2d}  bce {total / len(loader):.4f}  accuracy {acc:.3f}")


if __name__ == "__main__":
    main()
