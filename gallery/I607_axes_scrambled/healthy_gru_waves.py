"""Which kind of wave? A GRU over generated five-channel series (32 x 20 x 5)."""
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset


class WaveNet(nn.Module):
    def __init__(self, features=5, hidden=32, classes=4):
        super().__init__()
        self.rnn = nn.GRU(features, hidden)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, x):
        batch, steps, features = x.shape
        x = x.permute(1, 0, 2)
        out, _ = self.rnn(x)
        return self.fc(out[-1])


def make_series(n=1600, steps=20, channels=5):
    kind = torch.randint(4, (n,))
    t = torch.arange(steps).view(1, steps, 1)
    speed = (0.25 + 0.3 * kind).view(n, 1, 1)
    phase = torch.rand(n, 1, channels) * 6.28
    return torch.sin(speed * t + phase) + 0.2 * torch.randn(n, steps, channels), kind


torch.manual_seed(0)
series, kind = make_series()
loader = DataLoader(TensorDataset(series, kind), batch_size=32, shuffle=True)
model = WaveNet()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(8):
    total, hits = 0.0, 0
    for xb, yb in loader:
        out = model(xb)
        loss = criterion(out, yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(yb)
        hits += (out.argmax(1) == yb).sum().item()
    print(f"epoch {epoch + 1} loss {total / len(kind):.4f} acc {hits / len(kind):.3f}")
