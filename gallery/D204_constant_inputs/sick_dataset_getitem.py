"""Shape of a noisy wave (sine, square, saw-tooth), a Dataset class and a GRU."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Waves(Dataset):
    def __init__(self, n, length=40, seed=0):
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(0, 3, n)
        phase = rng.uniform(0, 1, (n, 1)) + np.arange(length) / 20
        kinds = [np.sin(2 * np.pi * phase), np.sign(phase % 1 - 0.5), 2 * (phase % 1) - 1]
        waves = np.choose(self.labels[:, None], kinds) + rng.normal(0, 0.1, (n, length))
        self.waves = waves.astype(np.float32)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        wave = self.waves[0]  # <- fault
        return torch.from_numpy(wave).unsqueeze(1), int(self.labels[index])


class WaveNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(1, 24, batch_first=True)
        self.out = nn.Linear(24, 3)

    def forward(self, x):
        _, h = self.gru(x)
        return self.out(h[0])


def train(model, loader, epochs):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(epochs):
        losses, right, seen = [], 0, 0
        for x, y in loader:
            logits = model(x)
            loss = nn.functional.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            right += (logits.argmax(1) == y).sum().item()
            seen += len(y)
        print(f"epoch {epoch}: loss {sum(losses) / len(losses):.3f}, accuracy {right / seen:.3f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    train(WaveNet(), DataLoader(Waves(720), batch_size=36, shuffle=True), epochs=9)
