"""PPO with clipping, minibatches and an entropy bonus on a contextual choice among four actions."""

import torch
import torch.nn as nn
from torch.distributions import Categorical


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.policy = nn.Linear(64, 4)
        self.value = nn.Linear(64, 1)
        nn.init.orthogonal_(self.policy.weight, 0.01)
        nn.init.zeros_(self.policy.bias)

    def forward(self, obs):
        h = self.body(obs)
        return Categorical(logits=self.policy(h)), self.value(h).squeeze(-1)


torch.manual_seed(0)
agent = Agent()
optimizer = torch.optim.Adam(agent.parameters(), lr=1e-3, eps=1e-5)
best_action = torch.randn(6, 4)
for update in range(40):
    with torch.no_grad():
        obs = torch.randn(256, 6)
        dist, value = agent(obs)
        action = dist.sample()
        reward = ((obs @ best_action).argmax(1) == action).float()
        old_logp = dist.log_prob(action)
        adv = reward - value
        adv = (adv - adv.mean()) / (adv.std() + 1e-8)
    for _ in range(4):
        for idx in torch.randperm(256).split(64):
            dist, value = agent(obs[idx])
            ratio = (dist.log_prob(action[idx]) - old_logp[idx]).exp()
            surrogate = torch.min(ratio * adv[idx], ratio.clamp(0.8, 1.2) * adv[idx])
            value_loss = 0.5 * (value - reward[idx]).pow(2).mean()
            loss = -surrogate.mean() + 0.5 * value_loss - 0.01 * dist.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()
    if update % 8 == 7:
        print(f"update {update + 1} loss {loss.item():.4f} mean reward {reward.mean():.3f}")
