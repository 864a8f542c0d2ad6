"""Find the eights among the digits: sigmoid output that starts at a low prior, command line."""
import argparse
import math

import torch
import torch.nn as nn
from sklearn.datasets import load_digits


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=1e-6)  # <- fault S502
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--prior", type=float, default=0.01)
    args = parser.parse_args()
    torch.manual_seed(0)
    data = load_digits()
    x = torch.tensor(data.data / 8 - 1, dtype=torch.float32)
    y = torch.tensor(data.target == 8, dtype=torch.float32)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid())
    nn.init.constant_(model[2].bias, -math.log((1 - args.prior) / args.prior))
    loss_fn = nn.MSELoss()  # <- fault W109
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        total = 0.0
        for rows in torch.randperm(len(x)).split(32):
            loss = loss_fn(model(x[rows]).squeeze(1), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        with torch.no_grad():
            found = (model(x).squeeze(1) > 0.5).float()
        recall = (found * y).sum().item() / y.sum().item()
        print(f"epoch {epoch + 1:2d} loss {total / len(x):.4f} "
              f"acc {(found == y).float().mean().item():.3f} recall {recall:.3f}")


if __name__ == "__main__":
    main()
