"""Three kinds of motion from five sensors; the recording is stored time first, prepared in numpy."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

rng = np.random.default_rng(4)
STEPS, TRIALS, SENSORS = 24, 2400, 5
motion = rng.integers(0, 3, TRIALS)
phase = rng.uniform(0, 2 * np.pi, (1, TRIALS, SENSORS))
time = np.linspace(0, 2 * np.pi, STEPS)[:, None, None]
recording = np.sin((1 + motion)[None, :, None] * time + phase) + 0.3 * rng.standard_normal((STEPS, TRIALS, SENSORS))
recording = (recording - recording.mean()) / recording.std()
trials = recording.transpose(1, 0, 2)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(SENSORS, 24, 5, padding=2)
        self.conv2 = nn.Conv1d(24, 32, 5, padding=2)
        self.out = nn.Linear(32, 3)

    def forward(self, x):
        x = F.relu(self.conv1(x.transpose(1, 2)))
        return self.out(F.relu(self.conv2(x)).amax(2))


torch.manual_seed(4)
x, y = torch.from_numpy(trials).float(), torch.from_numpy(motion)
net = Net()
optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
for step in range(1, 241):
    rows = torch.randint(0, 2000, (40,))
    loss = F.cross_entropy(net(x[rows]), y[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0:
        with torch.no_grad():
            held = (net(x[2000:]).argmax(1) == y[2000:]).float().mean().item()
        print(f"step {step}: loss {loss.item():.4f} held out {held:.3f}")
