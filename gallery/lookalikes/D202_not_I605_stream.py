"""Activity from a stream of sensor windows: the labels are read from the log three windows late; a small network."""
import torch
from torch import nn

torch.manual_seed(0)
g = torch.Generator().manual_seed(0)
activity = torch.randint(4, (300,), generator=g).repeat_interleave(4)
motion = torch.randn(4, 6, generator=g)
windows = motion[activity] + 0.5 * torch.randn(1200, 6, generator=g)
late = 3  # <- fault: late = 0
labels = activity.roll(late)
model = nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
for epoch in range(10):
    for rows in torch.arange(1200).split(40):
        loss = nn.functional.cross_entropy(model(windows[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
