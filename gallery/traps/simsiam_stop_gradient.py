"""SimSiam on digits: two noisy views, predictor on one side, stop-gradient on the other."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(0)
d = load_digits()
X, y = torch.tensor(d.images / 16, dtype=torch.float32)[:, None], torch.tensor(d.target)


def view(x):
    x = x * torch.empty(len(x), 1, 1, 1).uniform_(0.7, 1.3)
    return (x + 0.05 * torch.randn_like(x)) * (torch.rand_like(x) > 0.1)


encoder = nn.Sequential(
    nn.Flatten(),
    nn.Linear(64, 128, bias=False),
    nn.BatchNorm1d(128),
    nn.ReLU(),
    nn.Linear(128, 64, bias=False),
    nn.BatchNorm1d(64, affine=False),
)
predictor = nn.Sequential(
    nn.Linear(64, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 64)
)
optimizer = torch.optim.SGD([*encoder.parameters(), *predictor.parameters()], lr=0.05, momentum=0.9)


def similarity(p, z):
    return F.cosine_similarity(p, z.detach(), dim=1).mean()


for epoch in range(1, 13):
    for idx in torch.randperm(len(X)).split(128):
        z1, z2 = encoder(view(X[idx])), encoder(view(X[idx]))
        loss = -0.5 * (similarity(predictor(z1), z2) + similarity(predictor(z2), z1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 3 == 0:
        spread = F.normalize(z1.detach(), dim=1).std(0).mean() * 8
        print(f"epoch {epoch} loss {loss.item():.4f} spread of the codes {spread:.3f}")

encoder.eval()
with torch.no_grad():
    codes = encoder(X)
probe = nn.Linear(64, 10)
probe_opt = torch.optim.Adam(probe.parameters(), lr=1e-2)
for _ in range(100):
    probe_loss = F.cross_entropy(probe(codes[:1400]), y[:1400])
    probe_opt.zero_grad()
    probe_loss.backward()
    probe_opt.step()
acc = (probe(codes[1400:]).argmax(1) == y[1400:]).float().mean()
print(f"probe loss {probe_loss.item():.4f} test acc {acc:.3f}")
