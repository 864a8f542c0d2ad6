"""Convolutional network that ends in an embedding, a DataLoader and RMSprop."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class EmbedNet(nn.Module):
    def __init__(self, embedding, n_classes=10):
        super().__init__()
        self.conv = nn.Conv2d(1, 12, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.embed = nn.Linear(12 * 16, embedding)
        self.out = nn.Linear(embedding, n_classes)

    def forward(self, x):
        h = F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)
        return self.out(self.embed(h.flatten(1)))


torch.manual_seed(3)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
dataset = TensorDataset(images, torch.tensor(digits.target))
loader = DataLoader(dataset, batch_size=60, shuffle=True)

net = EmbedNet(embedding=1)  # <- fault
optimizer = torch.optim.RMSprop(net.parameters(), lr=2e-3)
for epoch in range(10):
    total, right = 0.0, 0
    for xb, yb in loader:
        logits = net(xb)
        loss = F.cross_entropy(logits, yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(xb)
        right += (logits.argmax(1) == yb).sum().item()
    print(f"epoch {epoch + 1:2d}: loss {total / len(dataset):.4f} acc {right / len(dataset):.3f}")
