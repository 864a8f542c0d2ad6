"""Shape of a part from six lengths in metres, each a few hundredths of a millimetre off."""
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
generator = torch.Generator().manual_seed(0)
shapes = torch.randn(4, 6, generator=generator)
y = torch.randint(4, (800,), generator=generator)
millimetres = shapes[y] + 0.6 * torch.randn(800, 6, generator=generator)
x = 1e-4 * millimetres  # <- fault: x = millimetres

model = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(10):
    for rows in torch.randperm(len(x)).split(32):
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: {loss.item():.4f}")
