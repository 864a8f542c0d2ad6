"""ArcFace additive angular margin softmax on digit embeddings."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class ArcMargin(nn.Module):
    def __init__(self, dim, n_classes, s=24.0, m=0.3):
        super().__init__()
        self.W = nn.Parameter(torch.empty(n_classes, dim))
        nn.init.xavier_uniform_(self.W)
        self.s, self.m = s, m

    def cosine(self, emb):
        return F.linear(F.normalize(emb), F.normalize(self.W))

    def forward(self, emb, label):
        cos = self.cosine(emb).clamp(-1 + 1e-6, 1 - 1e-6)
        theta = torch.acos(cos)
        with_margin = torch.cos((theta + self.m).clamp(max=math.pi))
        onehot = F.one_hot(label, cos.shape[1]).bool()
        return self.s * torch.where(onehot, with_margin, cos)


torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X).float() / 16, torch.tensor(y)
backbone = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 32))
head = ArcMargin(32, 10)
opt = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=0.05, momentum=0.9, weight_decay=1e-4)
for epoch in range(12):
    total = 0.0
    for i in torch.randperm(len(X)).split(64):
        loss = F.cross_entropy(head(backbone(X[i]), y[i]), y[i])
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item() * len(i)
    acc = (head.cosine(backbone(X)).argmax(1) == y).float().mean().item()
    print(f"epoch {epoch}: arcface loss {total / len(X):.4f} acc {acc:.3f}")
