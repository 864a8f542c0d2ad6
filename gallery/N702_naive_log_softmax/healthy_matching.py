"""Match the left half of a digit with its right half: two towers, cosine over a temperature."""
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class Tower(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(32, 128), nn.GELU(), nn.Linear(128, dim))

    def forward(self, x):
        return F.normalize(self.net(x), dim=1)


def row_loss(scores, labels):
    total = scores.logsumexp(dim=1)
    return (total - scores[torch.arange(len(labels)), labels]).mean()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--temperature", type=float, default=0.005)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()

    torch.manual_seed(0)
    images = torch.tensor(load_digits().images, dtype=torch.float32) / 8 - 1
    left, right = Tower(), Tower()
    optimizer = torch.optim.Adam([*left.parameters(), *right.parameters()], lr=1e-3)
    for step in range(1, args.steps + 1):
        batch = images[torch.randperm(len(images))[:args.batch]]
        a, b = left(batch[:, :, :4]), right(batch[:, :, 4:])
        scores = a @ b.T / args.temperature
        loss = row_loss(scores, torch.arange(args.batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 25 == 0:
            acc = (scores.argmax(1) == torch.arange(args.batch)).float().mean().item()
            print(f"step {step} loss {loss.item():.4f} matched {acc:.3f}")


if __name__ == "__main__":
    main()
