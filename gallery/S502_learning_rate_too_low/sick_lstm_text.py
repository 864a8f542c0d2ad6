"""Which of three standard-library modules a line of code comes from: LSTM over characters."""
import argparse
import calendar
import inspect
import random
import string
import textwrap

import torch
import torch.nn as nn

WIDTH = 24


def load():
    samples = []
    for label, module in enumerate((calendar, string, textwrap)):
        lines = [s.strip() for s in inspect.getsource(module).splitlines()]
        samples += [(s[:WIDTH].ljust(WIDTH), label) for s in lines if len(s) > 12][:140]
    random.Random(0).shuffle(samples)
    chars = sorted({c for s, _ in samples for c in s})
    x = torch.tensor([[chars.index(c) for c in s] for s, _ in samples])
    return x, torch.tensor([label for _, label in samples]), len(chars)


class LineClassifier(nn.Module):
    def __init__(self, vocab, hidden):
        super().__init__()
        self.embed = nn.Embedding(vocab, 16)
        self.lstm = nn.LSTM(16, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, 3)

    def forward(self, x):
        h, _ = self.lstm(self.embed(x))
        return self.head(h.amax(1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--batch", type=int, default=28)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-6)  # <- fault
    args = parser.parse_args()
    torch.manual_seed(0)
    x, y, vocab = load()
    model = LineClassifier(vocab, args.hidden)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    for epoch in range(1, args.epochs + 1):
        seen = correct = total = 0
        for idx in torch.randperm(len(x)).split(args.batch):
            out = model(x[idx])
            loss = nn.functional.cross_entropy(out, y[idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(idx)
            correct += (out.argmax(1) == y[idx]).sum().item()
            total += loss.item() * len(idx)
        print(f"epoch {epoch} loss {total / seen:.4f} train accuracy {correct / seen:.3f}")


if __name__ == "__main__":
    main()
