"""Digits, twenty tanh layers kept as raw tensors, Adam with an argparse main()."""
import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits


def make_weights(sizes, gain):
    weights = []
    for n, m in zip(sizes, sizes[1:]):
        weights.append((gain * torch.randn(n, m) / n ** 0.5).requires_grad_())
        weights.append(torch.zeros(m, requires_grad=True))
    return weights


def network(params, x):
    *hidden, w, b = params
    for v, c in zip(hidden[::2], hidden[1::2]):
        x = torch.tanh(x @ v + c)
    return x @ w + b


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--gain", type=float, default=1.0)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args()

    torch.manual_seed(0)
    digits = load_digits()
    x = torch.tensor((digits.data - 5) / 6, dtype=torch.float32)
    y = torch.tensor(digits.target)
    params = make_weights([64] + [args.width] * args.depth + [10], args.gain)
    optimizer = torch.optim.Adam(params, lr=args.lr)
    for epoch in range(args.epochs):
        losses, hits = [], 0
        for rows in torch.randperm(len(x)).split(50):
            logits = network(params, x[rows])
            loss = F.cross_entropy(logits, y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            hits += (logits.argmax(1) == y[rows]).sum().item()
        print(f"epoch {epoch + 1}: mean loss {sum(losses) / len(losses):.3f}, "
              f"largest {max(losses):.3f}, accuracy {hits / len(x):.3f}")


if __name__ == "__main__":
    main()
