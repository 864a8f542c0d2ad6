"""Two towers, one for the upper and one for the lower half of a digit; their codes are written into one buffer."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class Tower(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(n_in, 32), nn.ReLU(), nn.Linear(32, n_out))

    def forward(self, x):
        return self.net(x)


torch.manual_seed(0)
digits = load_digits()
top = torch.tensor(digits.data[:, :32] / 16, dtype=torch.float32)
bottom = torch.tensor(digits.data[:, 32:] / 16, dtype=torch.float32)
y = torch.tensor(digits.target)
tower_a, tower_b, head = Tower(32, 2), Tower(32, 2), nn.Linear(4, 10)
params = [*tower_a.parameters(), *tower_b.parameters(), *head.parameters()]
optimizer = torch.optim.RMSprop(params, lr=3e-3)
for epoch in range(12):
    total = correct = 0
    for idx in torch.randperm(len(y)).split(64):
        features = torch.zeros(len(idx), 4)
        features[:, :2] = tower_a(top[idx]).data
        features[:, 2:] = tower_b(bottom[idx]).data  # <- fault
        logits = head(features)
        loss = F.cross_entropy(logits, y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
        correct += (logits.argmax(1) == y[idx]).sum().item()
    print(f"epoch {epoch + 1} loss {total / len(y):.3f} acc {correct / len(y):.3f}")
