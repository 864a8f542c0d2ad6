"""CNN on digits with gradient accumulation over four micro-batches."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

ACCUMULATE = 4


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 12, 3, padding=1)
        self.fc = nn.Linear(12 * 16, 10)

    def forward(self, x):
        return self.fc(F.max_pool2d(F.relu(self.conv(x)), 2).flatten(1))


torch.manual_seed(0)
d = load_digits()
ds = TensorDataset(torch.tensor(d.images / 16, dtype=torch.float32)[:, None], torch.tensor(d.target))
loader = DataLoader(ds, batch_size=16, shuffle=True, drop_last=True)
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
optimizer.zero_grad()
for epoch in range(6):
    total = 0.0
    for i, (x, y) in enumerate(loader):
        loss = F.cross_entropy(model(x), y)
        (loss / ACCUMULATE).backward()
        total += loss.item()
        if (i + 1) % ACCUMULATE == 0:
            optimizer.step()
            optimizer.zero_grad()
    print(f"epoch {epoch} loss {total / len(loader):.4f}")
