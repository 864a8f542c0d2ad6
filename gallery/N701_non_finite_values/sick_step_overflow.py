"""Poisson rates from wine measurements with an exponential output, SGD."""
import torch
import torch.nn as nn
from sklearn.datasets import load_wine


class RateModel(nn.Module):
    def __init__(self, n_in):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_in, 24), nn.ReLU(), nn.Linear(24, 1))

    def forward(self, x):
        return torch.exp(self.body(x)).squeeze(-1)


torch.manual_seed(0)
data = torch.tensor(load_wine().data, dtype=torch.float32)
counts = data[:, 4].round()
x = torch.cat([data[:, :4], data[:, 5:]], dim=1)
x = (x - x.mean(0)) / x.std(0)
model = RateModel(x.shape[1])
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)  # <- fault
for step in range(300):
    idx = torch.randint(len(x), (64,))
    rate = model(x[idx])
    loss = (rate - counts[idx] * torch.log(rate)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 30 == 0 or step == 299:
        print(f"step {step} negative log-likelihood {loss.item():.3f}")
