"""Deep Q-learning with a replay buffer and a target network on a corridor with a far reward."""

import copy
import random
from collections import deque

import torch
import torch.nn as nn
import torch.nn.functional as F

random.seed(0)
torch.manual_seed(0)
LENGTH, GAMMA = 7, 0.9
q_net = nn.Sequential(nn.Linear(LENGTH, 32), nn.ReLU(), nn.Linear(32, 2))
target_net = copy.deepcopy(q_net)
optimizer = torch.optim.Adam(q_net.parameters(), lr=2e-3)
memory = deque(maxlen=2000)
eye = torch.eye(LENGTH)
steps, lengths = 0, []

for episode in range(90):
    state, length = 0, 0
    eps = max(0.1, 1.0 - episode / 40)
    while length < 40:
        if random.random() < eps:
            action = random.randrange(2)
        else:
            with torch.no_grad():
                action = int(q_net(eye[state]).argmax())
        nxt = max(0, state - 1) if action == 0 else state + 1
        done = nxt == LENGTH - 1
        memory.append((state, action, 1.0 if done else 0.0, nxt, float(done)))
        state, length, steps = nxt, length + 1, steps + 1
        if len(memory) >= 64 and steps % 2 == 0:
            s, a, r, s2, d = zip(*random.sample(memory, 32), strict=True)
            q = q_net(eye[list(s)]).gather(1, torch.tensor(a)[:, None]).squeeze(1)
            with torch.no_grad():
                best = target_net(eye[list(s2)]).max(1).values
                goal = torch.tensor(r) + GAMMA * (1 - torch.tensor(d)) * best
            loss = F.smooth_l1_loss(q, goal)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_value_(q_net.parameters(), 100)
            optimizer.step()
        if steps % 100 == 0:
            target_net.load_state_dict(q_net.state_dict())
        if done:
            break
    lengths.append(length)
    if episode % 15 == 14:
        print(f"episode {episode + 1} mean length {sum(lengths[-15:]) / 15:.1f}")
