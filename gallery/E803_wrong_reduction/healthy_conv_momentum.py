"""Class-based digits network with a DataLoader and momentum SGD."""
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(256, 32)
        self.out = nn.Linear(32, 10)

    def forward(self, x):
        x = self.pool(torch.relu(self.conv(x)))
        return self.out(torch.relu(self.fc(x.flatten(1))))


def train(model, loader, epochs, lr):
    criterion = nn.CrossEntropyLoss(reduction="mean")
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for epoch in range(epochs):
        losses, hits, seen = [], 0, 0
        for x, y in loader:
            out = model(x)
            loss = criterion(out, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            hits += (out.argmax(1) == y).sum().item()
            seen += len(y)
        print(f"epoch {epoch + 1} loss {sum(losses) / len(losses):.4f} acc {hits / seen:.3f}")


torch.manual_seed(1)
d = load_digits()
images = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1) / 16
loader = DataLoader(TensorDataset(images, torch.tensor(d.target)), batch_size=64, shuffle=True,
                    drop_last=True)
train(Classifier(), loader, epochs=10, lr=0.05)
