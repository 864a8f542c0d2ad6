"""A Dataset with augmentation, two worker processes, validation after each epoch."""
import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset


class Digits(Dataset):
    def __init__(self, part, augment=False):
        d = load_digits()
        rows = slice(0, 1500) if part == "train" else slice(1500, None)
        self.images, self.labels, self.augment = d.images[rows], d.target[rows], augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        img = self.images[i]
        if self.augment and torch.rand(()) < 0.5:
            img = np.roll(img, int(torch.randint(-1, 2, ())), axis=1)
        return torch.tensor(img / 16, dtype=torch.float32).unsqueeze(0), int(self.labels[i])


def main():
    torch.manual_seed(0)
    train = DataLoader(Digits("train", augment=True), batch_size=50, shuffle=True, num_workers=2, persistent_workers=True)
    val = DataLoader(Digits("val"), batch_size=100)
    model = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(192, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for epoch in range(6):
        model.train()
        for x, y in train:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            correct = sum((model(x).argmax(1) == y).sum().item() for x, y in val)
        print(f"epoch {epoch + 1} loss {loss.item():.4f} val acc {correct / len(val.dataset):.3f}")


if __name__ == "__main__":
    main()
