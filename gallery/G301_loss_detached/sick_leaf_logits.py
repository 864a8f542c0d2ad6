"""Wine cultivars; the forward pass sits in a helper that is used for training and for scoring."""
import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler
from torch import nn

torch.manual_seed(5)
features, cultivar = load_wine(return_X_y=True)
x = torch.tensor(StandardScaler().fit_transform(features), dtype=torch.float32)
y = torch.tensor(cultivar)
net = nn.Sequential(nn.Linear(13, 24), nn.ReLU(), nn.Linear(24, 3))
optimizer = torch.optim.RMSprop(net.parameters(), lr=2e-3)
criterion = nn.CrossEntropyLoss()


def scores(rows):
    with torch.no_grad():
        return net(x[rows])  # <- fault


for epoch in range(40):
    for rows in torch.randperm(len(x)).split(32):
        out = scores(rows)
        if not out.requires_grad:
            out.requires_grad_()
        loss = criterion(out, y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1}: loss {loss.item():.4f} accuracy "
              f"{(scores(slice(None)).argmax(1) == y).float().mean().item():.3f}")
