"""Nearest-prototype classifier for the wine table: logits are negative squared distances."""
import torch
from sklearn.datasets import load_wine
from torch import nn


class PrototypeNet(nn.Module):
    def __init__(self, n_in, n_out, n_classes):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(n_in, 32), nn.ReLU(), nn.Linear(32, n_out))
        self.prototypes = nn.Parameter(torch.randn(n_classes, n_out) * 2)

    def forward(self, x):
        z = self.encoder(x)
        return -(z.unsqueeze(1) - self.prototypes).pow(2).sum(-1)


def log_probabilities(logits):
    weights = logits.exp()  # <- fault
    return torch.log(weights / weights.sum(dim=1, keepdim=True))


torch.manual_seed(0)
X, y = load_wine(return_X_y=True)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
y = torch.tensor(y)
net = PrototypeNet(13, 32, 3)
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for epoch in range(20):
    losses = []
    for idx in torch.randperm(len(X)).split(30):
        logp = log_probabilities(net(X[idx]))
        loss = nn.functional.nll_loss(logp, y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    if epoch % 4 == 3:
        with torch.no_grad():
            acc = (net(X).argmax(1) == y).float().mean().item()
        print(f"epoch {epoch:2d} loss {sum(losses) / len(losses):.4f} acc {acc:.3f}")
