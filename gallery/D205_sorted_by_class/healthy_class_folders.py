"""Digits gathered folder by folder, one folder for each class; conv net on a DataLoader."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset


class FolderImages(Dataset):
    def __init__(self, images, target):
        self.samples = []
        for name in range(10):
            for image in images[target == name]:
                self.samples.append((torch.tensor(image / 16).float()[None], name))

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        return self.samples[i]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        )
        self.classifier = nn.Linear(64, 10)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


torch.manual_seed(0)
digits = load_digits()
train_set = FolderImages(digits.images[:1500], digits.target[:1500])
x_test = torch.tensor(digits.images[1500:] / 16).float().unsqueeze(1)
y_test = torch.tensor(digits.target[1500:])
loader = DataLoader(train_set, batch_size=25, shuffle=True)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
criterion = nn.CrossEntropyLoss()
for epoch in range(5):
    for step, (x, y) in enumerate(loader):
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 15 == 0:
            print(f"epoch {epoch} step {step:2d} loss {loss.item():.4f}")
    with torch.no_grad():
        accuracy = (model(x_test).argmax(1) == y_test).float().mean().item()
    print(f"epoch {epoch} test accuracy {accuracy:.3f}")
