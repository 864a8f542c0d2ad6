"""Two-bit weights and four-bit activations, trained through round() with x + (q - x).detach()."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


def quantise(x, bits, top):
    levels = 2**bits - 1
    q = torch.round(x.clamp(0, top) / top * levels) * top / levels
    return x.clamp(0, top) + (q - x.clamp(0, top)).detach()


class QuantLinear(nn.Linear):
    def forward(self, x):
        scale = 1.5 * self.weight.detach().abs().mean()
        w = (
            self.weight
            + (scale * torch.round((self.weight / scale).clamp(-1, 1)) - self.weight).detach()
        )
        return F.linear(x, w, self.bias)


class QuantNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.bn, self.fc2 = (
            QuantLinear(64, 128),
            nn.BatchNorm1d(128),
            QuantLinear(128, 10),
        )

    def forward(self, x):
        return self.fc2(quantise(self.bn(self.fc1(x)), 4, 2.0))


torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
model = QuantNet()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(8):
    model.train()
    for idx in torch.randperm(1400).split(50):
        loss = F.cross_entropy(model(X[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    acc = (model(X[1400:]).argmax(1) == y[1400:]).float().mean()
    print(f"epoch {epoch + 1} loss {loss.item():.4f} test acc {acc:.3f}")
