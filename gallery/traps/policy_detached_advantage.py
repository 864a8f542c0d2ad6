"""Policy gradient through cross_entropy weighted with a detached advantage and baseline."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class PolicyWithBaseline(nn.Module):
    def __init__(self, obs=5, actions=3):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(obs, 48), nn.Tanh())
        self.pi = nn.Linear(48, actions)
        self.v = nn.Linear(48, 1)

    def forward(self, x):
        h = self.trunk(x)
        return self.pi(h), self.v(h).squeeze(-1)


torch.manual_seed(0)
W = torch.randn(5, 3)
net = PolicyWithBaseline()
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for iteration in range(1, 301):
    obs = torch.randn(128, 5)
    logits, value = net(obs)
    action = torch.distributions.Categorical(logits=logits.detach()).sample()
    reward = (obs @ W).gather(1, action[:, None]).squeeze(1)
    advantage = (reward - value).detach()
    loss_pi = (F.cross_entropy(logits, action, reduction="none") * advantage).mean()
    loss = loss_pi + 0.5 * F.mse_loss(value, reward)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if iteration % 30 == 0:
        best = (obs @ W).max(1).values.mean()
        print(
            f"iteration {iteration} loss {loss.item():.4f} reward {reward.mean():.3f} of {best:.3f}"
        )
