"""LSTM language model over the characters of a Python module, NLLLoss on log-probabilities."""
import inspect
import heapq

import torch
import torch.nn as nn


def load_corpus():
    src = inspect.getsource(heapq)
    vocab = {c: i for i, c in enumerate(sorted(set(src)))}
    return torch.tensor([vocab[c] for c in src]), len(vocab)


class LM(nn.Module):
    def __init__(self, n_vocab, n_embed=24, n_hidden=96):
        super().__init__()
        self.lookup = nn.Embedding(n_vocab, n_embed)
        self.lstm = nn.LSTM(n_embed, n_hidden, batch_first=True)
        self.proj = nn.Linear(n_hidden, n_vocab)
        self.logprob = nn.LogSoftmax(dim=2)

    def forward(self, x):
        hidden, _ = self.lstm(self.lookup(x))
        return self.logprob(self.proj(hidden))


def train(steps=250, batch=12, seq_len=40):
    torch.manual_seed(0)
    corpus, n_vocab = load_corpus()
    model = LM(n_vocab)
    criterion = nn.NLLLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    for step in range(1, steps + 1):
        starts = torch.randint(0, len(corpus) - seq_len - 1, (batch, 1))
        window = corpus[starts + torch.arange(seq_len + 1)]
        x, y = window[:, :-1], window[:, 1:]
        out = model(x)
        loss = criterion(out.view(-1, n_vocab), y.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if step == 1 or step % 50 == 0:
            acc = (out.argmax(-1) == y).float().mean().item()
            print(f"step {step:4d}  loss {loss.item():.4f}  acc {acc:.3f}")


if __name__ == "__main__":
    train()
