"""Digits with a convolutional network, its weights set in a loop, Adam and mini-batches."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits


def build(std):
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
    )
    for name, p in net.named_parameters():
        if name.endswith("weight"):
            p.data.normal_(0.0, std)
        else:
            p.data.zero_()
    return net


def accuracy(net, x, y):
    with torch.no_grad():
        return (net(x).argmax(1) == y).float().mean().item()


def main():
    torch.manual_seed(0)
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    y = torch.tensor(digits.target)
    train, test = slice(0, 1400), slice(1400, None)
    net = build(std=0.1)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(1, 11):
        losses = []
        for idx in torch.randperm(1400).split(50):
            optimizer.zero_grad()
            loss = criterion(net(x[train][idx]), y[train][idx])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch:2d}: loss {sum(losses) / len(losses):.3f} "
              f"test accuracy {accuracy(net, x[test], y[test]):.3f}")


if __name__ == "__main__":
    main()
