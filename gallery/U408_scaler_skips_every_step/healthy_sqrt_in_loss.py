"""Regression of the wine alcohol content from the other measurements, with a gradient scaler and a smoothness term."""
import torch
import torch.nn as nn
from sklearn.datasets import load_wine


class Regressor(nn.Module):
    def __init__(self, n_in, hidden=32):
        super().__init__()
        self.hidden = nn.Linear(n_in, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        return self.out(torch.relu(self.hidden(x))).squeeze(-1)


def spread_penalty(pred):
    gap = pred[:, None] - pred[None, :]
    return (gap.pow(2) + 1e-8).sqrt().mean()


torch.manual_seed(0)
data = torch.tensor(load_wine().data, dtype=torch.float32)
data = (data - data.mean(0)) / data.std(0)
x, y = data[:, 1:], data[:, 0]
model = Regressor(x.shape[1])
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
scaler = torch.amp.GradScaler("cpu")
for epoch in range(40):
    losses = []
    for idx in torch.randperm(len(x)).split(32):
        pred = model(x[idx])
        loss = nn.functional.mse_loss(pred, y[idx]) + 0.01 * spread_penalty(pred)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    if epoch % 4 == 3:
        print(f"epoch {epoch + 1:2d} mse+penalty {sum(losses) / len(losses):.4f}")
