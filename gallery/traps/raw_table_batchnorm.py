"""Breast cancer measurements as they come (0.001 to 4000), normalised by the network itself."""

import argparse

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--lr", type=float, default=1e-2)
    args = parser.parse_args()
    torch.manual_seed(0)
    X, y = load_breast_cancer(return_X_y=True)
    X_tr, X_te, y_tr, y_te = train_test_split(X, y, test_size=0.25, random_state=1)
    print("column means from", X_tr.mean(0).min().round(4), "to", X_tr.mean(0).max().round(1))
    ds = TensorDataset(torch.tensor(X_tr).float(), torch.tensor(y_tr).float())
    loader = DataLoader(ds, batch_size=32, shuffle=True, drop_last=True)
    model = nn.Sequential(
        nn.BatchNorm1d(30, affine=False),
        nn.Linear(30, 32),
        nn.ReLU(),
        nn.Linear(32, 1),
        nn.Flatten(0),
    )
    loss_fn = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    for epoch in range(args.epochs):
        model.train()
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = loss_fn(model(xb), yb)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            pred = model(torch.tensor(X_te).float()) > 0
        acc = (pred == torch.tensor(y_te).bool()).float().mean()
        print(f"epoch {epoch + 1:2d} loss {loss.item():.4f} test acc {acc:.3f}")


if __name__ == "__main__":
    main()
