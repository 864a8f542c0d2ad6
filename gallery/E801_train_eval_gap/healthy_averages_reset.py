"""Handwritten digits as raw grey values; a trainer class with an end-of-epoch hook."""
import torch
from sklearn.datasets import load_digits
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset, random_split


class Trainer:
    def __init__(self, model, lr):
        self.model = model
        self.optimizer = optim.Adam(model.parameters(), lr=lr)
        self.loss = nn.CrossEntropyLoss()

    def begin_epoch(self):
        self.fresh_averages()
        self.model.train()

    def end_epoch(self):
        self.model.eval()

    def run(self, train, test, epochs):
        for epoch in range(1, epochs + 1):
            self.begin_epoch()
            for x, y in train:
                loss = self.loss(self.model(x), y)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
            self.end_epoch()
            print(f"epoch {epoch}: last batch {loss.item():.4f} test accuracy {self.accuracy(test):.3f}")

    @torch.no_grad()
    def accuracy(self, loader):
        hits = [(self.model(x).argmax(1) == y).float().mean() for x, y in loader]
        return torch.stack(hits).mean().item()

    def fresh_averages(self):
        for layer in self.model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_running_stats()


if __name__ == "__main__":
    torch.manual_seed(7)
    digits = load_digits()
    images = torch.tensor(digits.images * 12 + 60, dtype=torch.float32).unsqueeze(1)
    data = TensorDataset(images, torch.tensor(digits.target))
    train, test = random_split(data, [1400, len(data) - 1400])
    model = nn.Sequential(
        nn.BatchNorm2d(1), nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 10),
    )
    trainer = Trainer(model, lr=2e-3)
    trainer.run(DataLoader(train, 64, shuffle=True), DataLoader(test, 128), epochs=6)
