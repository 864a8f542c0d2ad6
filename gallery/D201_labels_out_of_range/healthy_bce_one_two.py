"""Tumour classifier, diagnosis codes 1 = benign and 2 = malignant, one logit."""
import argparse

import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler


def load():
    d = load_breast_cancer()
    codes = 2 - d.target
    x = torch.tensor(StandardScaler().fit_transform(d.data), dtype=torch.float32)
    y = torch.tensor(codes - 1, dtype=torch.float32)
    return x, y


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch", type=int, default=48)
    args = parser.parse_args()
    torch.manual_seed(0)
    x, y = load()
    model = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1))
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        total = hits = 0
        for idx in torch.randperm(len(x)).split(args.batch):
            logit = model(x[idx]).squeeze(-1)
            loss = criterion(logit, y[idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(idx)
            hits += ((logit > 0) == (y[idx] == y.max())).sum().item()
        print(f"epoch {epoch + 1:2d}  loss {total / len(x):10.4f}  acc {hits / len(x):.3f}")


if __name__ == "__main__":
    main()
