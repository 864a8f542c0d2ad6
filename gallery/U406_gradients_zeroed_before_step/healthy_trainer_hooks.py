"""Keras-like trainer with hooks around each step, GRU over digit rows, DataLoader with workers."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset


class DigitRows(Dataset):
    def __init__(self):
        d = load_digits()
        self.x = d.images.astype("float32") / 16
        self.y = d.target

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return torch.from_numpy(self.x[i]), int(self.y[i])


class RowGRU(nn.Module):
    def __init__(self, hidden=40):
        super().__init__()
        self.gru = nn.GRU(8, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, 10)

    def forward(self, x):
        out, _ = self.gru(x)
        return self.fc(out[:, -1])


class Trainer:
    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer
        self.criterion = nn.CrossEntropyLoss()

    def before_step(self):
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)

    def after_step(self):
        self.model.zero_grad(set_to_none=False)

    def training_step(self, batch):
        x, y = batch
        out = self.model(x)
        loss = self.criterion(out, y)
        loss.backward()
        self.before_step()
        self.optimizer.step()
        self.after_step()
        return loss.item(), (out.argmax(1) == y).float().mean().item()

    def fit(self, loader, epochs):
        for epoch in range(epochs):
            logs = [self.training_step(b) for b in loader]
            loss, acc = (sum(c) / len(logs) for c in zip(*logs))
            print(f"epoch {epoch + 1}: loss={loss:.4f} acc={acc:.4f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    model = RowGRU()
    loader = DataLoader(DigitRows(), batch_size=64, shuffle=True, num_workers=2, persistent_workers=True)
    Trainer(model, torch.optim.Adam(model.parameters(), lr=1e-2)).fit(loader, 7)
