"""A2C on a windy grid: n-step returns, shared body, entropy bonus."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
SIZE, ENVS, HORIZON, GAMMA = 4, 32, 8, 0.95
MOVES = torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])
body = nn.Sequential(nn.Linear(2 * SIZE, 64), nn.ReLU())
actor, critic = nn.Linear(64, 4), nn.Linear(64, 1)
params = [*body.parameters(), *actor.parameters(), *critic.parameters()]
optimizer = torch.optim.RMSprop(params, lr=3e-3, alpha=0.99, eps=1e-5)


def encode(pos):
    return torch.cat([F.one_hot(pos[:, 0], SIZE), F.one_hot(pos[:, 1], SIZE)], dim=1).float()


pos = torch.randint(0, SIZE - 1, (ENVS, 2))
for update in range(1, 201):
    logps, values, rewards, dones, entropies = [], [], [], [], []
    for _ in range(HORIZON):
        h = body(encode(pos))
        logp_all = F.log_softmax(actor(h), dim=1)
        action = torch.multinomial(logp_all.detach().exp(), 1)
        logps.append(logp_all.gather(1, action).squeeze(1))
        entropies.append(-(logp_all.exp() * logp_all).sum(1))
        values.append(critic(h).squeeze(1))
        pos = (pos + MOVES[action.squeeze(1)]).clamp(0, SIZE - 1)
        done = (pos == SIZE - 1).all(1)
        rewards.append(done.float() - 0.02)
        dones.append(done.float())
        pos = torch.where(done[:, None], torch.randint(0, SIZE - 1, (ENVS, 2)), pos)
    with torch.no_grad():
        ret = critic(body(encode(pos))).squeeze(1)
    returns = []
    for r, d in zip(reversed(rewards), reversed(dones), strict=True):
        ret = r + GAMMA * (1 - d) * ret
        returns.insert(0, ret)
    returns, values = torch.stack(returns), torch.stack(values)
    advantage = (returns - values).detach()
    policy_loss = -(torch.stack(logps) * advantage).mean()
    loss = policy_loss + 0.5 * F.mse_loss(values, returns) - 0.01 * torch.stack(entropies).mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(params, 0.5)
    optimizer.step()
    if update % 40 == 0:
        print(f"update {update} loss {loss.item():.4f} reward {torch.stack(rewards).mean():.4f}")
