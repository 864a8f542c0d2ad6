"""Multi-label attributes of digits: several yes/no properties predicted per image."""
import argparse

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.01)
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--hidden", type=int, default=48)
args = parser.parse_args()

ATTRIBUTES = {
    "is_zero": {0}, "is_one": {1}, "square": {4, 9}, "cube": {8}, "two_or_three": {2, 3},
    "seven": {7}, "five_or_six": {5, 6}, "loop": {0, 8}, "nine": {9}, "three": {3},
}


def attributes(labels):
    return np.stack([[float(l in members) for l in labels] for members in ATTRIBUTES.values()], axis=1)


class AttributeNet(torch.nn.Module):
    def __init__(self, n_in, n_hidden, n_out):
        super().__init__()
        self.fc1 = torch.nn.Linear(n_in, n_hidden)
        self.fc2 = torch.nn.Linear(n_hidden, n_out)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        return torch.sigmoid(self.fc2(x))  # <- fault


torch.manual_seed(7)
digits = load_digits()
x = torch.from_numpy(digits.data).float() / 16
t = torch.from_numpy(attributes(digits.target)).float()
net = AttributeNet(64, args.hidden, t.shape[1])
optimizer = torch.optim.RMSprop(net.parameters(), lr=args.lr)

for step in range(1, args.steps + 1):
    pick = torch.randint(0, len(x), (args.batch,))
    optimizer.zero_grad()
    loss = F.binary_cross_entropy_with_logits(net(x[pick]), t[pick])
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        with torch.no_grad():
            out = net(x)
            hit = (out > 0.5).float()
            recall = (hit * t).sum() / t.sum()
        print(f"step {step:3d}  bce {loss.item():.4f}  recall {recall:.3f}")
