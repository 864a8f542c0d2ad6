"""Two-dimensional codes of the digits and a classifier on top of them, trained together."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class CodeClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
        self.classifier = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x):
        z = self.encoder(x)
        logits = self.classifier(z.detach())  # <- fault
        return logits, z


torch.manual_seed(0)
d = load_digits()
loader = DataLoader(TensorDataset(torch.tensor(d.data / 16, dtype=torch.float32), torch.tensor(d.target)),
                    batch_size=64, shuffle=True)
model = CodeClassifier()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(12):
    total = hits = 0
    for x, y in loader:
        logits, z = model(x)
        loss = F.cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
        hits += (logits.argmax(1) == y).sum().item()
    print(f"epoch {epoch:2d} loss {total / 1797:.4f} acc {hits / 1797:.3f} code std {z.std(0).mean().item():.2f}")
