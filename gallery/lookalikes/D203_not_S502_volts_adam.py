"""Which electrode pattern: signals in volts (they are microvolts), a tanh network and Adam."""
import torch
from torch import nn


def recordings(n, seed):
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(3, 8, generator=generator)
    label = torch.randint(3, (n,), generator=generator)
    microvolts = 20 * (patterns[label] + 0.7 * torch.randn(n, 8, generator=generator))
    return microvolts, label


def main():
    torch.manual_seed(0)
    signal, label = recordings(900, 1)
    signal = signal * 1e-6  # <- fault: signal = signal / 20
    net = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 3))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    loss_fn = nn.CrossEntropyLoss()
    for epoch in range(12):
        total = 0.0
        for rows in torch.randperm(len(signal)).split(30):
            optimizer.zero_grad()
            loss = loss_fn(net(signal[rows]), label[rows])
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"{epoch} {total / 30:.4f}")


main()
