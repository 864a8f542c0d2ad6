"""Wine cultivars from the chemical analysis, a sparse ReLU network in a Trainer class."""
import torch
from sklearn.datasets import load_wine
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class SparseNet(nn.Module):
    def __init__(self, n_in=13, width=48, n_out=3):
        super().__init__()
        self.inner = nn.Linear(n_in, width)
        self.outer = nn.Linear(width, n_out)
        nn.init.constant_(self.inner.bias, -8.0)  # <- fault I603

    def forward(self, x):
        return self.outer(torch.relu(self.inner(x)))


class Trainer:
    def __init__(self, model, loader):
        self.model, self.loader = model, loader
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        self.criterion = nn.CrossEntropyLoss()

    def run_epoch(self):
        total = hits = count = 0
        for x, y in self.loader:
            out = self.model(x)
            loss = self.criterion(out, y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(y)
            hits += (out.argmax(1) == y).sum().item()
            count += len(y)
        return total / count, hits / count


torch.manual_seed(0)
wine = load_wine()
table = torch.tensor(wine.data, dtype=torch.float32)
inputs = table  # <- fault D203
loader = DataLoader(TensorDataset(inputs, torch.tensor(wine.target)), batch_size=16, shuffle=True)
trainer = Trainer(SparseNet(), loader)
for epoch in range(40):
    loss, acc = trainer.run_epoch()
    if epoch % 4 == 3:
        print(f"epoch {epoch + 1}: loss {loss:.4f}, accuracy {acc:.3f}")
