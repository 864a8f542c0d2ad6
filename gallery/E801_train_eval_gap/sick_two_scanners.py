"""Digits from two scanners (one bright, one dark), a CNN with batch norm in a Trainer class."""
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(1),
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        )
        self.head = nn.Linear(128, 10)

    def forward(self, x):
        return self.head(self.body(x).flatten(1))


class Trainer:
    def __init__(self, model, x, y, scanner, seed=0):
        self.model, self.x, self.y, self.scanner = model, x, y, scanner
        self.rng = np.random.default_rng(seed)
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        self.loss_fn = nn.CrossEntropyLoss()

    def batches(self, size=50):
        order = self.rng.permutation(len(self.x))
        order = order[np.argsort(self.scanner[order], kind="stable")]  # <- fault
        parts = [torch.from_numpy(p) for p in np.array_split(order, len(order) // size)]
        return [parts[i] for i in self.rng.permutation(len(parts))]

    def fit(self, epochs):
        for epoch in range(epochs):
            self.model.train()
            losses = []
            for rows in self.batches():
                loss = self.loss_fn(self.model(self.x[rows]), self.y[rows])
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                losses.append(loss.item())
            print(f"epoch {epoch + 1} train loss {np.mean(losses):.4f} acc {self.score():.3f}")

    @torch.no_grad()
    def score(self):
        self.model.eval()
        return (self.model(self.x).argmax(1) == self.y).float().mean().item()


if __name__ == "__main__":
    torch.manual_seed(0)
    digits = load_digits()
    scanner = np.arange(1200) % 2
    gain = np.where(scanner == 1, 1.0, 0.6)[:, None, None]
    offset = np.where(scanner == 1, 1.5, -1.5)[:, None, None]
    images = torch.tensor(digits.images[:1200] / 8 * gain + offset, dtype=torch.float32)
    labels = torch.tensor(digits.target[:1200])
    Trainer(ConvNet(), images.unsqueeze(1), labels, scanner).fit(7)
