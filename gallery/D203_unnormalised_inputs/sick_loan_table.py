"""Loan defaults from a table (income, debt, age, date of the contract); Adam, BCE."""
import argparse

import numpy as np
import torch
from torch import nn


def make_table(n, rng):
    income = rng.lognormal(10.8, 0.5, n)
    debt = income * rng.uniform(0.1, 3.0, n)
    age = rng.uniform(20, 70, n)
    signed = rng.integers(1_500_000_000, 1_700_000_000, n)
    risk = 2.5 * (debt / income - 1.5) - 0.06 * (age - 45) + rng.normal(0, 0.5, n)
    table = np.stack([income, debt, age, signed], axis=1).astype(np.float32)
    return table, (risk > 0).astype(np.float32)


class RiskNet(nn.Module):
    def __init__(self, n_in, hidden):
        super().__init__()
        self.hidden = nn.Linear(n_in, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        return self.out(torch.relu(self.hidden(x))).squeeze(1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--hidden", type=int, default=32)
    args = parser.parse_args()
    torch.manual_seed(0)
    table, default = make_table(1500, np.random.default_rng(0))
    x, y = torch.from_numpy(table), torch.from_numpy(default)  # <- fault
    model = RiskNet(x.shape[1], args.hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    loss_fn = nn.BCEWithLogitsLoss()
    for epoch in range(args.epochs):
        total, hits = 0.0, 0
        for rows in torch.randperm(len(x)).split(30):
            score = model(x[rows])
            loss = loss_fn(score, y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
            hits += ((score > 0) == (y[rows] > 0.5)).sum().item()
        print(f"epoch {epoch + 1}: loss {total / len(x):.4f} accuracy {hits / len(x):.3f}")


if __name__ == "__main__":
    main()
