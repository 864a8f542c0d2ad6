"""GRU over the pixel rows with gradual unfreezing: calibration layer first, then everything."""
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import nn


@dataclass
class Config:
    epochs: int = 8
    unfreeze_epoch: int = 10  # <- fault
    lr: float = 0.01
    batch: int = 90


class RowGRU(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(8, 48, batch_first=True)
        self.out = nn.Linear(48, 10)
        self.calibration = nn.Parameter(torch.zeros(10))

    def forward(self, x):
        _, h = self.rnn(x)
        return self.out(h[0]) + self.calibration


def set_frozen(model, frozen):
    for name, p in model.named_parameters():
        if name != "calibration":
            p.requires_grad_(not frozen)


def main(cfg):
    torch.manual_seed(0)
    d = load_digits()
    x, y = torch.tensor(d.images / 16).float(), torch.tensor(d.target)
    model = RowGRU()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=cfg.lr)
    set_frozen(model, True)
    for epoch in range(cfg.epochs):
        if epoch == cfg.unfreeze_epoch:
            set_frozen(model, False)
        losses = []
        for idx in torch.randperm(len(x)).split(cfg.batch):
            loss = nn.functional.cross_entropy(model(x[idx]), y[idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch} mean loss {sum(losses) / len(losses):.4f}")


if __name__ == "__main__":
    main(Config())
