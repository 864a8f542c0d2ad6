"""Three-arm spiral with a configurable network and a small Trainer class."""
import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def spirals(n_per_arm=400, arms=3):
    t = torch.rand(arms, n_per_arm).sqrt()
    start = torch.arange(arms).unsqueeze(1) * 2 * math.pi / arms
    angle = start + 1.3 * math.pi * t + 0.08 * torch.randn(arms, n_per_arm)
    xy = torch.stack([t * angle.cos(), t * angle.sin()], dim=-1) * 2
    return xy.reshape(-1, 2), torch.arange(arms).repeat_interleave(n_per_arm)


class Net(nn.Module):
    def __init__(self, sizes, activation):
        super().__init__()
        layers = []
        for a, b in zip(sizes[:-2], sizes[1:-1]):
            layers += [nn.Linear(a, b), activation()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-2], sizes[-1])

    def forward(self, x):
        return self.head(self.body(x))


class Trainer:
    def __init__(self, model, data, lr=5e-3):
        self.model, self.loader = model, DataLoader(data, batch_size=64, shuffle=True)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        self.loss_fn = nn.CrossEntropyLoss()

    def epoch(self):
        total = hits = count = 0
        for x, y in self.loader:
            out = self.model(x)
            loss = self.loss_fn(out, y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(y)
            hits += (out.argmax(1) == y).sum().item()
            count += len(y)
        return total / count, hits / count


if __name__ == "__main__":
    torch.manual_seed(7)
    dataset = TensorDataset(*spirals())
    config = {"sizes": [2, 48, 48, 3], "activation": nn.Identity}  # <- fault
    trainer = Trainer(Net(**config), dataset)
    for e in range(30):
        loss, acc = trainer.epoch()
        if e % 3 == 2:
            print(f"[{e + 1}/30] loss={loss:.4f} acc={acc:.3f}")
