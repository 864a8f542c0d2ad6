"""Character model with a plain recurrent layer on the source of the queue module."""
import argparse
import inspect
import queue

import torch
from torch import nn


class CharRNN(nn.Module):
    def __init__(self, vocab, embed=24, hidden=96):
        super().__init__()
        self.embed = nn.Embedding(vocab, embed)
        self.rnn = nn.RNN(embed, hidden, batch_first=True)
        self.out = nn.Linear(hidden, vocab)
        for name, p in self.rnn.named_parameters():
            if name.startswith("weight"):
                nn.init.xavier_uniform_(p)
            else:
                nn.init.constant_(p, 10.0)  # <- fault

    def forward(self, x, state=None):
        h, state = self.rnn(self.embed(x), state)
        return self.out(h), state


def main(args):
    text = inspect.getsource(queue)
    vocab = sorted(set(text))
    ids = torch.tensor([vocab.index(c) for c in text])
    torch.manual_seed(args.seed)
    model = CharRNN(len(vocab))
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    criterion = nn.CrossEntropyLoss()
    for step in range(1, args.steps + 1):
        start = torch.randint(len(ids) - args.length - 1, (args.batch, 1))
        window = ids[start + torch.arange(args.length + 1)]
        logits, _ = model(window[:, :-1])
        loss = criterion(logits.transpose(1, 2), window[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 40 == 0:
            print(f"step {step} loss {loss.item():.3f} perplexity {loss.exp().item():.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for flag, value in (("steps", 320), ("batch", 16), ("length", 24), ("seed", 0)):
        parser.add_argument(f"--{flag}", type=int, default=value)
    parser.add_argument("--lr", type=float, default=4e-3)
    main(parser.parse_args())
