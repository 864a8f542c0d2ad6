"""Digits with a Fitter class, Nesterov SGD and a validation pass after every epoch."""
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset


class Fitter:
    def __init__(self, model, lr=0.05):
        self.model = model
        self.opt = optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True)
        self.loss = nn.CrossEntropyLoss()

    def train_epoch(self, loader):
        self.model.train()
        total = 0.0
        for x, y in loader:
            loss = self.loss(self.model(x), y)
            loss.backward()  # <- fault
            self.opt.step()
            total += loss.item() * len(x)
        return total / len(loader.dataset)

    @torch.no_grad()
    def validate(self, loader):
        self.model.eval()
        hits = total = 0.0
        for x, y in loader:
            out = self.model(x)
            total += self.loss(out, y).item() * len(x)
            hits += (out.argmax(1) == y).sum().item()
        n = len(loader.dataset)
        return total / n, hits / n

    def fit(self, train_loader, val_loader, epochs):
        self.opt.zero_grad()
        for epoch in range(epochs):
            train_loss = self.train_epoch(train_loader)
            val_loss, val_acc = self.validate(val_loader)
            print(f"epoch {epoch}: train {train_loss:.4f} val {val_loss:.4f} acc {val_acc:.3f}")


def make_loader(x, y, shuffle):
    ds = TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y))
    return DataLoader(ds, batch_size=32, shuffle=shuffle)


if __name__ == "__main__":
    torch.manual_seed(5)
    X, y = load_digits(return_X_y=True)
    X1, X2, y1, y2 = train_test_split(X, y, test_size=0.2, random_state=5)
    net = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
    Fitter(net).fit(make_loader(X1, y1, True), make_loader(X2, y2, False), 8)
