"""Train with several random seeds by calling main() again and again; report mean and spread."""
import argparse
import statistics

import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=6)
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    X, y = load_breast_cancer(return_X_y=True)
    X = torch.tensor(X, dtype=torch.float32)
    X = (X - X.mean(0)) / X.std(0)
    y = torch.tensor(y, dtype=torch.float32)
    model = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(args.epochs):
        for idx in torch.randperm(len(X)).split(32):
            loss = nn.functional.binary_cross_entropy_with_logits(model(X[idx]).squeeze(1), y[idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        acc = ((model(X).squeeze(1) > 0) == (y > 0.5)).float().mean().item()
    print(f"seed {args.seed} loss {loss.item():.4f} accuracy {acc:.4f}")
    return acc


if __name__ == "__main__":
    accs = [main(["--seed", str(s)]) for s in range(4)]
    print(f"{statistics.mean(accs):.4f} +- {statistics.stdev(accs):.4f}")
