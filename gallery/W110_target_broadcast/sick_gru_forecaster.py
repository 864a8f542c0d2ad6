"""One-step-ahead forecasting of a noisy oscillation with a GRU and Huber loss."""
import math

import torch
import torch.nn as nn

torch.manual_seed(0)
t = torch.arange(1500) * 0.1
series = torch.sin(t) + 0.5 * torch.sin(2.7 * t) + 0.05 * torch.randn(1500)
WINDOW = 16
windows = series.unfold(0, WINDOW + 1, 1)
inputs, targets = windows[:, :-1].unsqueeze(-1), windows[:, -1]


class Forecaster(nn.Module):
    def __init__(self, hidden=24):
        super().__init__()
        self.gru = nn.GRU(1, hidden, batch_first=True)
        self.readout = nn.Linear(hidden, 1)

    def forward(self, x):
        out, _ = self.gru(x)
        return self.readout(out[:, -1])  # <- fault


model = Forecaster()
optimizer = torch.optim.RMSprop(model.parameters(), lr=3e-3)
for step in range(1, 251):
    i = torch.randint(0, len(inputs), (32,))
    err = model(inputs[i]) - targets[i]
    loss = torch.where(err.abs() < 1, 0.5 * err ** 2, err.abs() - 0.5).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        with torch.no_grad():
            rmse = math.sqrt(((model(inputs).flatten() - targets) ** 2).mean().item())
        print(f"step {step}: huber {loss.item():.4f}  rmse {rmse:.3f}")
