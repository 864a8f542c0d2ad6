"""Breast cancer in original units: normalisation layer, two hidden layers, argparse."""
import argparse

import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split


def build(args):
    return nn.Sequential(
        nn.BatchNorm1d(30, affine=False, momentum=args.bn_momentum),
        nn.Linear(30, args.hidden), nn.ReLU(),
        nn.Linear(args.hidden, 1), nn.Flatten(0),
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--hidden", type=int, default=24)
    parser.add_argument("--bn-momentum", type=float, default=0.0)  # <- fault
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--epochs", type=int, default=30)
    args = parser.parse_args()
    torch.manual_seed(1)
    x, y = load_breast_cancer(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    xtr, xte, ytr, yte = train_test_split(x, y, test_size=0.3, random_state=1)
    model = build(args)
    loss_fn = nn.BCEWithLogitsLoss()
    opt = torch.optim.Adam(model.parameters(), lr=args.lr)
    for epoch in range(1, args.epochs + 1):
        model.train()
        losses = []
        for rows in torch.randperm(len(xtr)).split(50):
            if len(rows) < 2:
                continue
            opt.zero_grad()
            loss = loss_fn(model(xtr[rows]), ytr[rows])
            loss.backward()
            opt.step()
            losses.append(loss.item())
        if epoch % 5 == 0:
            model.eval()
            with torch.no_grad():
                acc = ((model(xte) > 0) == (yte > 0.5)).float().mean().item()
                held = loss_fn(model(xte), yte).item()
            print(f"epoch {epoch}: train {sum(losses) / len(losses):.4f} "
                  f"test {held:.4f} test acc {acc:.3f}")


if __name__ == "__main__":
    main()
