"""Time-major LSTM language model: outputs are [T, B, V], log_softmax over dim 2."""
import codecs
import contextlib
import io

import torch
import torch.nn as nn
import torch.nn.functional as F

with contextlib.redirect_stdout(io.StringIO()):
    import this

torch.manual_seed(0)
text = codecs.decode(this.s, "rot13")
chars = sorted(set(text))
ids = torch.tensor([chars.index(c) for c in text])
T, B, V = 32, 12, len(chars)


class TimeMajorLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, 24)
        self.lstm = nn.LSTM(24, 96)
        self.decoder = nn.Linear(96, V)

    def forward(self, x):
        out, _ = self.lstm(self.embed(x))
        return F.log_softmax(self.decoder(out), dim=2)


model = TimeMajorLSTM()
opt = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(1, 201):
    s = torch.randint(len(ids) - T - 1, (B,))
    w = ids[s + torch.arange(T + 1).unsqueeze(1)]
    logp = model(w[:-1])
    loss = F.nll_loss(logp.permute(0, 2, 1), w[1:])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 40 == 0:
        print(f"step {step}: loss {loss.item():.4f} acc {(logp.argmax(2) == w[1:]).float().mean():.3f}")
