"""Digits as raw bytes 0..255 into a network whose first layer is a BatchNorm."""

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset, random_split


class ByteDigits(Dataset):
    def __init__(self):
        d = load_digits()
        self.images = torch.tensor(d.images * 255 / 16).to(torch.uint8)
        self.labels = torch.tensor(d.target)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.images[i].float()[None], self.labels[i]


torch.manual_seed(0)
train_set, test_set = random_split(ByteDigits(), [1400, 397])
model = nn.Sequential(
    nn.BatchNorm2d(1),
    nn.Conv2d(1, 16, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(32 * 16, 10),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for epoch in range(6):
    model.train()
    for images, labels in DataLoader(train_set, batch_size=64, shuffle=True):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        hits = sum((model(x).argmax(1) == y).sum().item() for x, y in DataLoader(test_set, 128))
    print(f"epoch {epoch + 1} loss {loss.item():.4f} test acc {hits / len(test_set):.3f}")
