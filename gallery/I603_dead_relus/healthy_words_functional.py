"""Bag-of-words topics from docstrings of four modules: raw tensors and a sparse hidden layer."""
import argparse
import difflib
import inspect
import logging
import random
import re
import tarfile

import torch
import torch.nn.functional as F

random.seed(0)
torch.manual_seed(0)
bags, labels = [], []
for label, module in enumerate((argparse, difflib, logging, tarfile)):
    words = re.findall("[a-z]{3,}", inspect.getsource(module).lower())[:6000]
    for i in range(0, len(words) - 30, 30):
        bags.append(words[i:i + 30])
        labels.append(label)
counts = {}
for word in (w for bag in bags for w in bag):
    counts[word] = counts.get(word, 0) + 1
vocab = {w: i for i, w in enumerate(sorted(counts, key=counts.get, reverse=True)[:300])}
x = torch.zeros(len(bags), len(vocab))
for row, bag in zip(x, bags):
    for word in bag:
        if word in vocab:
            row[vocab[word]] += 1
x = F.normalize(x, dim=1) * 4
y = torch.tensor(labels)

hidden = 64
threshold = torch.full((hidden,), 0.1)
w1 = (torch.randn(len(vocab), hidden) / 4).requires_grad_()
b1 = (-threshold).requires_grad_()
w2 = (torch.randn(hidden, 4) / 8).requires_grad_()
b2 = torch.zeros(4, requires_grad=True)
optimizer = torch.optim.Adam([w1, b1, w2, b2], lr=2e-3)
for epoch in range(1, 16):
    total = correct = 0
    for idx in torch.randperm(len(x)).split(32):
        logits = F.relu(x[idx] @ w1 + b1) @ w2 + b2
        loss = F.cross_entropy(logits, y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
        correct += (logits.argmax(1) == y[idx]).sum().item()
    print(f"epoch {epoch:2d} loss {total / len(x):.4f} accuracy {correct / len(x):.3f}")
