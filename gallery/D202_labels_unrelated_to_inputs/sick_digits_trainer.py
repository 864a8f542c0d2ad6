"""Handwritten digits with a small conv net in a Trainer class."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.fc = nn.Linear(16 * 2 * 2, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc(x.flatten(1))


def load_data(rng):
    digits = load_digits()
    images = (digits.images / 16 - 0.3).astype(np.float32)[:, None]
    labels = digits.target
    order = rng.permutation(len(images))
    images = images[order]
    labels = labels[rng.permutation(len(labels))]  # <- fault
    return torch.from_numpy(images), torch.from_numpy(labels)


class Trainer:
    def __init__(self, model, lr=3e-3):
        self.model = model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    def run_epoch(self, x, y, batch_size=50):
        losses = []
        for rows in torch.randperm(len(x)).split(batch_size):
            loss = F.cross_entropy(self.model(x[rows]), y[rows])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return np.mean(losses)

    @torch.no_grad()
    def accuracy(self, x, y):
        return (self.model(x).argmax(1) == y).float().mean().item()


torch.manual_seed(0)
x, y = load_data(np.random.default_rng(0))
x_train, y_train, x_test, y_test = x[:1500], y[:1500], x[1500:], y[1500:]
trainer = Trainer(ConvNet())
for epoch in range(6):
    loss = trainer.run_epoch(x_train, y_train)
    print(f"epoch {epoch}: loss {loss:.3f}, test accuracy {trainer.accuracy(x_test, y_test):.3f}")
