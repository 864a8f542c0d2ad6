"""Digits with a convolutional network; training step and evaluation in one class."""
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional as F


class DigitClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(12 * 16, 32), nn.ReLU(), nn.Linear(32, 10),
        )

    def forward(self, x):
        return self.body(x)

    def training_step(self, batch):
        x, y = batch
        probs = F.softmax(self(x), dim=1)
        return F.l1_loss(probs, F.one_hot(y, 10).float())  # <- fault

    @torch.no_grad()
    def score(self, x, y):
        return (self(x).argmax(1) == y).float().mean().item()


def main(steps=300, batch_size=64):
    torch.manual_seed(0)
    d = load_digits()
    xtr, xva, ytr, yva = train_test_split(d.images, d.target, random_state=0)
    to = lambda a: torch.tensor(a, dtype=torch.float32)[:, None] / 16
    xtr, xva, ytr, yva = to(xtr), to(xva), torch.tensor(ytr), torch.tensor(yva)
    model = DigitClassifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for step in range(1, steps + 1):
        i = torch.randint(len(xtr), (batch_size,))
        loss = model.training_step((xtr[i], ytr[i]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 60 == 0:
            print(f"step {step}: loss {loss.item():.4f} val acc {model.score(xva, yva):.3f}")


main()
