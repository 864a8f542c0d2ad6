"""Next-character GRU with a narrow projection in front of the softmax, trained on docstrings of difflib."""
import difflib

import torch
import torch.nn as nn
import torch.nn.functional as F

text = (difflib.__doc__ + difflib.ndiff.__doc__ + difflib.unified_diff.__doc__).lower()
chars = sorted(set(text))
ids = torch.tensor([chars.index(c) for c in text])
T = 20


class CharGRU(nn.Module):
    def __init__(self, v):
        super().__init__()
        self.emb = nn.Embedding(v, 24)
        self.gru = nn.GRU(24, 64, batch_first=True)
        self.proj = nn.Linear(64, 4)
        self.out = nn.Linear(4, v)

    def forward(self, x):
        with torch.no_grad():  # <- fault
            h, _ = self.gru(self.emb(x))
        return self.out(torch.tanh(self.proj(h)))


torch.manual_seed(0)
model = CharGRU(len(chars))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(1, 251):
    start = torch.randint(0, len(ids) - T - 1, (16, 1))
    window = ids[start + torch.arange(T + 1)]
    logits = model(window[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], 1.0)
    optimizer.step()
    if step % 25 == 0:
        print(f"step {step}: {loss.item():.4f} nats/char")
