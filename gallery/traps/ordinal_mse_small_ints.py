"""How many dark pixels are in the middle row? Counting with a regression network."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
d = load_digits()
X = torch.tensor(d.data).float() / 16
count = torch.tensor((d.images[:, 3:5] > 8).sum(axis=(1, 2))).float()
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
print("variance of the counts", round(count.var().item(), 3))
for step in range(1, 301):
    i = torch.randint(len(X), (64,))
    loss = nn.functional.mse_loss(model(X[i]).squeeze(1), count[i])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 60 == 0:
        exact = (model(X).squeeze(1).round() == count).float().mean().item()
        print(f"step {step}: mse {loss.item():.4f} exact {exact:.3f}")
