"""Recall the first symbol of a sequence: a recurrent layer written by hand, Adam."""
import torch
import torch.nn as nn
import torch.nn.functional as F

SYMBOLS, LENGTH = 6, 10


class Memory(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        self.inputs = nn.Linear(width, width)
        self.recurrent = nn.Linear(width, width, bias=False)
        self.readout = nn.Linear(width, SYMBOLS)
        nn.init.orthogonal_(self.recurrent.weight)

    def forward(self, tokens):
        x = self.inputs(self.embed(tokens))
        h = x.new_zeros(x.shape[0], x.shape[2])
        for t in range(x.shape[1]):
            h = torch.tanh(x[:, t] + self.recurrent(h.detach()))  # <- fault
        return self.readout(h)


class Trainer:
    def __init__(self, model, lr=3e-3):
        self.model = model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    def fit(self, batches, steps_per_epoch=40):
        losses, hits, seen = [], 0, 0
        for step, tokens in enumerate(batches, 1):
            logits = self.model(tokens)
            loss = F.cross_entropy(logits, tokens[:, 0])
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            losses.append(loss.item())
            hits += (logits.argmax(1) == tokens[:, 0]).sum().item()
            seen += len(tokens)
            if step % steps_per_epoch == 0:
                print(f"step {step}: loss {sum(losses) / len(losses):.4f} acc {hits / seen:.3f}")
                losses, hits, seen = [], 0, 0


if __name__ == "__main__":
    torch.manual_seed(0)
    Trainer(Memory()).fit(torch.randint(SYMBOLS, (64, LENGTH)) for _ in range(320))
