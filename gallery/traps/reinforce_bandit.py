"""REINFORCE on a contextual bandit: the context is a digit, the reward is 1 for naming it."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X).float() / 16, torch.tensor(y)
policy = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(policy.parameters(), lr=5e-3)
baseline = 0.1
for episode in range(1, 501):
    i = torch.randint(len(X), (64,))
    dist = torch.distributions.Categorical(logits=policy(X[i]))
    action = dist.sample()
    reward = (action == y[i]).float()
    loss = -(dist.log_prob(action) * (reward - baseline)).mean() - 0.01 * dist.entropy().mean()
    baseline = 0.9 * baseline + 0.1 * reward.mean().item()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if episode % 100 == 0:
        print(f"episode {episode}: surrogate {loss.item():+.4f} mean reward {baseline:.3f}")
