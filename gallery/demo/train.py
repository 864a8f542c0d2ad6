"""Classify the digits 0 to 4 (scikit-learn's bundled images)."""

import argparse

import torch
from model import DigitNet
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=0.02)
    args = parser.parse_args()

    torch.manual_seed(0)
    data = load_digits(n_class=5)
    images = torch.tensor(data.images / 16, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(data.target)
    loader = DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=True)

    model = DigitNet(classes=5)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.5)

    for epoch in range(args.epochs):
        total, correct = 0.0, 0
        for x, y in loader:
            optimizer.zero_grad()
            out = model(x)
            loss = criterion(out, y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
            correct += (out.argmax(1) == y).sum().item()
        print(f"epoch {epoch + 1}  loss {total / len(labels):.4f}  accuracy {correct / len(labels):.3f}")


if __name__ == "__main__":
    main()
