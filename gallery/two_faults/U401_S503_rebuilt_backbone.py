"""Wine cultivars: draft and final network of different width, SGD with an L2 term."""
import torch
import torch.nn as nn
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(13, width), nn.GELU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.norm(self.body(x)))


def l2(model):
    return sum(p.pow(2).sum() for p in model.parameters())


torch.manual_seed(0)
wine = load_wine()
x = torch.tensor(StandardScaler().fit_transform(wine.data), dtype=torch.float32)
y = torch.tensor(wine.target)
draft, model = Net(8), Net(24)
optimizer = torch.optim.SGD(draft.parameters(), lr=0.02, momentum=0.9)  # <- fault U401
penalty = 5.0  # <- fault S503
for epoch in range(30):
    total, right = 0.0, 0
    for rows in torch.randperm(len(x)).split(16):
        out = model(x[rows])
        ce = nn.functional.cross_entropy(out, y[rows])
        loss = ce + penalty * l2(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += ce.item() * len(rows)
        right += (out.argmax(1) == y[rows]).sum().item()
    if epoch % 3 == 2:
        print(f"epoch {epoch + 1} cross-entropy {total / len(x):.4f} acc {right / len(x):.3f}")
