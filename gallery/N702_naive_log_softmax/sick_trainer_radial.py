"""Trainer for digits with a radial-basis output layer (one centre per class)."""
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class RadialNet(nn.Module):
    def __init__(self, width=64, classes=10):
        super().__init__()
        self.features = nn.Sequential(
            nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, width), nn.LayerNorm(width),
        )
        self.centres = nn.Parameter(torch.randn(classes, width))

    def forward(self, x):
        return -torch.cdist(self.features(x), self.centres).square()


class Trainer:
    def __init__(self, model, train_set, test_set):
        self.model = model
        self.train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
        self.test_loader = DataLoader(test_set, batch_size=400)
        self.optimizer = torch.optim.SGD(model.parameters(), lr=2e-3, momentum=0.9)

    def loss(self, logits, labels):
        logp = torch.log(torch.softmax(logits, dim=1).clamp(min=1e-9))  # <- fault
        return -logp.gather(1, labels.unsqueeze(1)).mean()

    def train_epoch(self):
        total = 0.0
        for x, y in self.train_loader:
            self.optimizer.zero_grad()
            loss = self.loss(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total / len(self.train_loader)

    @torch.no_grad()
    def accuracy(self):
        hits = sum((self.model(x).argmax(1) == y).sum().item() for x, y in self.test_loader)
        return hits / len(self.test_loader.dataset)


if __name__ == "__main__":
    torch.manual_seed(2)
    d = load_digits()
    ds = TensorDataset(torch.tensor(d.data / 8 - 1, dtype=torch.float32), torch.tensor(d.target))
    trainer = Trainer(RadialNet(), *random_split(ds, [1397, 400]))
    for epoch in range(12):
        mean = trainer.train_epoch()
        print(f"epoch {epoch + 1:2d} train loss {mean:.4f} test acc {trainer.accuracy():.3f}")
