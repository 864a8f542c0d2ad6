"""Colour of noisy photographs (height 14, width 10, three channels), CNN with global pooling."""
import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


def photos(n, rng):
    colour = rng.integers(0, 3, n)
    img = rng.uniform(0, 1, (n, 14, 10, 3)).astype(np.float32)
    img[np.arange(n), :, :, colour] += 0.25
    img += rng.normal(0, 0.15, (n, 1, 1, 1)).astype(np.float32)
    return img - 0.5, colour


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(3, 16, 3)
        self.c2 = nn.Conv2d(16, 16, 3)
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        x = F.relu(self.c2(F.relu(self.c1(x))))
        return self.fc(x.mean(dim=(2, 3)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=3e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    img, colour = photos(1500, np.random.default_rng(0))
    x = torch.from_numpy(img).reshape(-1, 3, 14, 10)  # <- fault
    y = torch.from_numpy(colour)
    net = Net()
    opt = torch.optim.Adam(net.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        losses, hits = [], 0
        for rows in torch.randperm(len(x)).split(50):
            out = net(x[rows])
            loss = F.cross_entropy(out, y[rows])
            opt.zero_grad()
            loss.backward()
            opt.step()
            losses.append(loss.item())
            hits += (out.argmax(1) == y[rows]).sum().item()
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f} acc {hits / len(x):.3f}")


if __name__ == "__main__":
    main()
