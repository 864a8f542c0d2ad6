"""Transformer on the rows of the digits, AdamW with separate groups for decayed and undecayed weights."""
import argparse

import torch
import torch.nn as nn
from sklearn.datasets import load_digits

parser = argparse.ArgumentParser()
parser.add_argument("--d-model", type=int, default=32)
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--lr", type=float, default=3e-3)
parser.add_argument("--weight-decay", type=float, default=0.01)
args = parser.parse_args()


class RowTransformer(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.embed = nn.Linear(8, d)
        self.pos = nn.Parameter(0.02 * torch.randn(8, d))
        self.block = nn.TransformerEncoderLayer(d, 4, 2 * d, dropout=0.0, batch_first=True)
        self.head = nn.Linear(d, 10)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, x):
        h = self.block(self.embed(x) + self.pos)
        return self.head(h.mean(dim=1))


torch.manual_seed(1)
digits = load_digits()
images = torch.tensor(digits.images / 16.0, dtype=torch.float32)
labels = torch.tensor(digits.target)
model = RowTransformer(args.d_model)

decay, no_decay = [], []
for name, param in model.named_parameters():
    if name.endswith("bias") or "norm" in name:
        no_decay.append(param)
    else:
        decay.append(param)
groups = [{"params": decay, "weight_decay": args.weight_decay}, {"params": no_decay, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=args.lr, weight_decay=args.weight_decay)
loss_fn = nn.CrossEntropyLoss()
for epoch in range(1, args.epochs + 1):
    order, total, correct = torch.randperm(len(images)), 0.0, 0
    for idx in order.split(64):
        logits = model(images[idx])
        loss = loss_fn(logits, labels[idx])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
        correct += (logits.argmax(-1) == labels[idx]).sum().item()
    print(f"Epoch {epoch}: loss={total / len(images):.4f} accuracy={correct / len(images):.2%}")
