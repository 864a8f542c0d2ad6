"""Notes in generated spectrograms, in decibels below full scale: Conv1d network, SGD momentum."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

FREQUENCIES = [220.0, 261.6, 329.6, 392.0, 493.9, 587.3]


def decibels(n, gen, rate=4000, samples=256):
    label = torch.randint(len(FREQUENCIES), (n,), generator=gen)
    f = torch.tensor(FREQUENCIES)[label, None]
    time = torch.arange(samples) / rate
    phase = 2 * math.pi * torch.rand(n, 1, generator=gen)
    wave = torch.sin(2 * math.pi * f * time + phase)
    wave = wave + 0.5 * torch.randn(n, samples, generator=gen)
    power = torch.fft.rfft(wave * torch.hann_window(samples)).abs()[:, :48] ** 2
    db = 10 * torch.log10(power / power.amax() + 1e-8)
    return (db / 40).unsqueeze(1), label


class NoteNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 16, 5, padding=2, bias=False)
        self.fc = nn.Linear(16 * 12, 6)
        bound = 1 / self.conv.weight[0].numel() ** 0.5
        nn.init.uniform_(self.conv.weight, -bound, bound)

    def forward(self, x):
        x = F.max_pool1d(F.relu(self.conv(x)), 4)
        return self.fc(x.flatten(1))


gen = torch.Generator().manual_seed(0)
torch.manual_seed(0)
x, y = decibels(900, gen)
net = NoteNet()
optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
for epoch in range(15):
    total = hits = 0
    for idx in torch.randperm(len(x), generator=gen).split(30):
        logits = net(x[idx])
        loss = F.cross_entropy(logits, y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
        hits += (logits.argmax(1) == y[idx]).sum().item()
    print(f"epoch {epoch:2d} loss {total / len(x):.4f} accuracy {hits / len(x):.3f}")
