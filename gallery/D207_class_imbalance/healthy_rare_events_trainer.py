"""Rare events in a vibration signal: a GRU in a Trainer class with a weighted cross entropy."""
import math

import torch
import torch.nn.functional as F
from torch import nn


def recordings(n, gen):
    event = torch.rand(n, generator=gen) < 0.04
    time = torch.arange(30)
    phase = 2 * math.pi * torch.rand(n, 1, generator=gen)
    signal = torch.sin(0.6 * time + phase) + 0.5 * torch.randn(n, 30, generator=gen)
    signal = signal + event[:, None] * 0.7 * torch.sin(2.4 * time)
    return signal.unfold(1, 6, 3), event.long()


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(6, 24, batch_first=True)
        self.head = nn.Linear(24, 2)

    def forward(self, x):
        out, _ = self.gru(x)
        return self.head(out.mean(1))


class Trainer:
    def __init__(self, model, signal, event):
        self.model, self.signal, self.event = model, signal, event
        share = event.bincount() / len(event)
        self.weight = 0.5 / share
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        print("share of the classes:", share.tolist())

    def fit(self, epochs, batch_size=40):
        for epoch in range(1, epochs + 1):
            losses = []
            for rows in torch.randperm(len(self.event)).split(batch_size):
                logits = self.model(self.signal[rows])
                loss = F.cross_entropy(logits, self.event[rows], weight=self.weight)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                losses.append(loss.item())
            print(f"epoch {epoch:2d} loss {sum(losses) / len(losses):.4f}", self.report())

    @torch.no_grad()
    def report(self):
        answer = self.model(self.signal).argmax(1)
        recalls = [(answer[self.event == k] == k).float().mean().item() for k in range(2)]
        return "recall quiet {:.3f}, event {:.3f}".format(*recalls)


torch.manual_seed(0)
Trainer(Detector(), *recordings(1600, torch.Generator().manual_seed(1))).fit(12)
