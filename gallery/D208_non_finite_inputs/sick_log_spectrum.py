"""Tones with pauses in between: log spectrogram and a 1d conv net over the frames, Adam."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F


def tones(n, gen, samples=640):
    label = torch.randint(5, (n,), generator=gen)
    pitch = torch.tensor([0.05, 0.08, 0.12, 0.17, 0.23])[label, None]
    time = torch.arange(samples)
    wave = torch.sin(2 * math.pi * pitch * time + torch.rand(n, 1, generator=gen))
    wave = wave + 0.8 * torch.randn(n, samples, generator=gen)
    pause = torch.randint(0, samples - 160, (n, 1), generator=gen)
    return wave * ((time < pause) | (time >= pause + 160)), label


def log_spectrogram(wave):
    frames = wave.unfold(1, 64, 32) * torch.hann_window(64)
    power = torch.fft.rfft(frames).abs() ** 2
    return power.log().transpose(1, 2) / 5  # <- fault


class ToneNet(nn.Module):
    def __init__(self, bins=33, width=24):
        super().__init__()
        self.conv = nn.Conv1d(bins, width, 3)
        self.fc = nn.Linear(width, 5)

    def forward(self, x):
        return self.fc(F.relu(self.conv(x)).mean(2))


def main(epochs=8, batch_size=40):
    torch.manual_seed(0)
    wave, label = tones(800, torch.Generator().manual_seed(0))
    spectra = log_spectrogram(wave)
    net = ToneNet()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for epoch in range(epochs):
        losses = []
        for rows in torch.randperm(len(spectra)).split(batch_size):
            loss = F.cross_entropy(net(spectra[rows]), label[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        with torch.no_grad():
            hits = (net(spectra).argmax(1) == label).float().mean().item()
        print(f"epoch {epoch + 1}: loss {sum(losses) / len(losses):.4f}, accuracy {hits:.3f}")


if __name__ == "__main__":
    main()
