"""Which module of the standard library do twenty words come from? Embedding bag and MLP."""
import argparse
import ast
import inspect
import re
import textwrap
from collections import Counter

import torch
import torch.nn as nn
import torch.nn.functional as F

MODULES = [argparse, ast, inspect, textwrap]
LENGTH = 20

texts = [re.findall(r"[a-z]+", inspect.getsource(m).lower()) for m in MODULES]
counter = Counter(word for words in texts for word in words)
vocab = {word: i for i, word in enumerate(counter.most_common(400), start=1)}  # <- fault


def encode(words):
    return [vocab.get(word, 0) for word in words]


samples, labels = [], []
for label, words in enumerate(texts):
    for start in range(0, min(len(words), 6000) - LENGTH, LENGTH):
        samples.append(encode(words[start:start + LENGTH]))
        labels.append(label)
tokens, labels = torch.tensor(samples), torch.tensor(labels)


class TextClassifier(nn.Module):
    def __init__(self, vocab_size, width=32):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocab_size, width, mode="mean")
        self.fc1 = nn.Linear(width, 32)
        self.fc2 = nn.Linear(32, len(MODULES))

    def forward(self, tokens):
        return self.fc2(F.relu(self.fc1(self.embedding(tokens))))


torch.manual_seed(0)
model = TextClassifier(401)
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
for epoch in range(12):
    total = correct = 0
    for rows in torch.randperm(len(tokens)).split(32):
        logits = model(tokens[rows])
        loss = F.cross_entropy(logits, labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
        correct += (logits.argmax(1) == labels[rows]).sum().item()
    print(f"epoch {epoch + 1:2d} loss {total / len(labels):.4f} acc {correct / len(labels):.3f}")
