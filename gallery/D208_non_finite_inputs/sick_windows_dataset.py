"""Walking or cycling from windows of an accelerometer: Dataset, LSTM."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Windows(Dataset):
    def __init__(self, n, length=32, seed=0):
        rng = np.random.default_rng(seed)
        self.walking = rng.integers(0, 2, n)
        t = np.arange(length)
        pace = np.where(self.walking == 1, 0.9, 0.35)[:, None]
        signal = np.sin(pace * t + rng.uniform(0, 6, (n, 1))) + rng.normal(0, 0.4, (n, length))
        switched_off = rng.random(n) < 0.03
        signal[switched_off] = 0.0
        self.signal = (5 + 2 * signal).astype(np.float32)

    def __len__(self):
        return len(self.walking)

    def __getitem__(self, i):
        window = self.signal[i]
        window = (window - window.mean()) / window.std()  # <- fault
        return torch.from_numpy(window).unsqueeze(1), torch.tensor(float(self.walking[i]))


class PaceNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(1, 20, batch_first=True)
        self.out = nn.Linear(20, 1)

    def forward(self, x):
        h, _ = self.lstm(x)
        return self.out(h.mean(1)).squeeze(1)


torch.manual_seed(0)
np.seterr(all="ignore")
loader = DataLoader(Windows(800), batch_size=40, shuffle=True)
net = PaceNet()
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
loss_fn = nn.BCEWithLogitsLoss()
for epoch in range(8):
    total = hits = 0
    for x, y in loader:
        score = net(x)
        loss = loss_fn(score, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
        hits += ((score > 0) == (y > 0.5)).sum().item()
    print(f"epoch {epoch} loss {total / 800:.4f} accuracy {hits / 800:.3f}")
