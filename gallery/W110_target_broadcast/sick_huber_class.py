"""Disease progression with a robust loss of our own as a module; momentum SGD, index batches."""
import torch
import torch.nn as nn
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import StandardScaler


class Robust(nn.Module):
    """Quadratic up to delta, linear beyond."""

    def __init__(self, delta=1.0):
        super().__init__()
        self.delta = delta

    def forward(self, guess, truth):
        error = (guess - truth).abs()
        inner = 0.5 * error ** 2
        outer = self.delta * (error - 0.5 * self.delta)
        return torch.where(error < self.delta, inner, outer).mean()


torch.manual_seed(3)
data = load_diabetes(scaled=False)
x = torch.tensor(StandardScaler().fit_transform(data.data), dtype=torch.float32)
y = torch.tensor(data.target, dtype=torch.float32)
y = (y - y.mean()) / y.std()

net = nn.Sequential(nn.Linear(10, 48), nn.Tanh(), nn.Linear(48, 1))
criterion = Robust(1.5)
optimizer = torch.optim.SGD(net.parameters(), lr=0.03, momentum=0.9)
for epoch in range(60):
    for index in torch.randperm(len(x)).split(34):
        optimizer.zero_grad()
        loss = criterion(net(x[index]), y[index])  # <- fault
        loss.backward()
        optimizer.step()
    if epoch % 10 == 9:
        with torch.no_grad():
            guess = net(x)[:, 0]
            r2 = 1 - ((guess - y) ** 2).mean() / y.var()
        print(f"epoch {epoch + 1}: loss {loss.item():.4f} R2 {r2.item():.3f}")
