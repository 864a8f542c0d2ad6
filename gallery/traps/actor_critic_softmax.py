"""Actor-critic on a six-state corridor; the actor ends in a softmax."""
import torch
import torch.nn as nn

torch.manual_seed(0)
N_STATES = 6


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(N_STATES, 16), nn.Tanh(), nn.Linear(16, 2), nn.Softmax(dim=-1))
        self.critic = nn.Sequential(nn.Linear(N_STATES, 16), nn.Tanh(), nn.Linear(16, 1))


net = ActorCritic()
opt = torch.optim.Adam(net.parameters(), lr=0.01)
eye, lengths = torch.eye(N_STATES), []
for episode in range(1, 101):
    s, logps, values, rewards = 1, [], [], []
    for t in range(30):
        dist = torch.distributions.Categorical(net.actor(eye[s]))
        a = dist.sample()
        logps.append(dist.log_prob(a))
        values.append(net.critic(eye[s]).squeeze())
        s = max(0, s + (1 if a.item() == 1 else -1))
        rewards.append(1.0 if s == N_STATES - 1 else -0.05)
        if s == N_STATES - 1:
            break
    returns, g = [], 0.0
    for r in reversed(rewards):
        g = r + 0.95 * g
        returns.insert(0, g)
    returns, values = torch.tensor(returns), torch.stack(values)
    advantage = returns - values.detach()
    loss = -(torch.stack(logps) * advantage).mean() + 0.5 * (returns - values).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    lengths.append(len(rewards))
    if episode % 20 == 0:
        print(f"episode {episode}: loss {loss.item():+.4f} mean length {sum(lengths[-20:]) / 20:.1f}")
