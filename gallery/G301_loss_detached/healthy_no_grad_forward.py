"""Trainer with a shared predict() used for both training and validation."""
import torch
import torch.nn as nn
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset


class Model(nn.Module):
    def __init__(self, n_in=13, n_out=3):
        super().__init__()
        self.norm = nn.BatchNorm1d(n_in)
        self.mlp = nn.Sequential(nn.Linear(n_in, 24), nn.ReLU(), nn.Linear(24, n_out))

    def forward(self, x):
        return self.mlp(self.norm(x))


class Trainer:
    def __init__(self, model):
        self.model = model
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def predict(self, x):
        return self.model(x)

    def train(self, loader):
        self.model.train()
        total = 0.0
        for x, y in loader:
            loss = self.criterion(self.predict(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(y)
        return total / len(loader.dataset)

    def validate(self, loader):
        self.model.eval()
        with torch.no_grad():
            return sum((self.predict(x).argmax(1) == y).sum().item() for x, y in loader) / len(loader.dataset)


torch.manual_seed(0)
X, y = load_wine(return_X_y=True)
parts = train_test_split(torch.tensor(X, dtype=torch.float32), torch.tensor(y), test_size=0.25, random_state=1)
train_loader = DataLoader(TensorDataset(parts[0], parts[2]), batch_size=16, shuffle=True, drop_last=True)
val_loader = DataLoader(TensorDataset(parts[1], parts[3]), batch_size=64)
trainer = Trainer(Model())
for epoch in range(20):
    print(f"epoch {epoch + 1}: train loss {trainer.train(train_loader):.4f}, val acc {trainer.validate(val_loader):.3f}")
