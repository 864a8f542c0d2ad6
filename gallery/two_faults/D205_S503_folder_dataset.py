"""Digits as a custom folder-like Dataset with one directory per class, SGD with weight decay."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset


class FolderDataset(Dataset):
    def __init__(self, images, labels):
        self.items = [(k, i) for k in range(10) for i in (labels == k).nonzero()[0]]
        self.images = torch.tensor(images, dtype=torch.float32) / 16

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        label, i = self.items[index]
        return self.images[i].flatten(), label


torch.manual_seed(0)
digits = load_digits()
dataset = FolderDataset(digits.images, digits.target)
loader = DataLoader(dataset, batch_size=60, shuffle=False)  # <- fault D205
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
                      nn.Linear(64, 10))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=2.0)  # <- fault S503
for epoch in range(12):
    losses = []
    for x, y in loader:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        out = model(dataset.images.flatten(1))
    acc = (out.argmax(1) == torch.tensor(digits.target)).float().mean().item()
    print(f"epoch {epoch + 1:2d} mean loss {sum(losses) / len(losses):.4f} accuracy {acc:.3f}")
