"""State of a pump from six gauges in pascal; the scale of the scores is fixed by hand and in no optimizer."""
import torch
import torch.nn.functional as F
from torch import nn


class Scorer(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.hidden = nn.Linear(inputs, 32)
        self.out = nn.Linear(32, classes)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.scale * self.out(torch.relu(self.hidden(x)))


torch.manual_seed(0)
g = torch.Generator().manual_seed(2)
state = torch.randint(3, (600,), generator=g)
bar = torch.randn(3, 6, generator=g)[state] + 0.6 * torch.randn(600, 6, generator=g)
pressure = 1e5 * bar  # <- fault: pressure = 1.0 * bar
model = Scorer(6, 3)
optimizer = torch.optim.SGD([*model.hidden.parameters(), *model.out.parameters()], lr=0.05)
for epoch in range(12):
    for rows in torch.randperm(600).split(30):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(pressure[rows]), state[rows])
        loss.backward()
        optimizer.step()
    print(epoch, round(loss.item(), 4))
