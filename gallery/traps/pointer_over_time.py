"""Pointer network: which position of the sequence holds the largest value? Softmax over time is the answer."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
LENGTH = 12


class Pointer(nn.Module):
    def __init__(self, dim=24):
        super().__init__()
        self.rnn = nn.GRU(1, dim, batch_first=True, bidirectional=True)
        self.score = nn.Linear(2 * dim, 1)

    def forward(self, x):
        return self.score(self.rnn(x)[0])


model = Pointer()
opt = torch.optim.Adam(model.parameters(), lr=5e-3)
for step in range(1, 251):
    x = torch.randn(32, LENGTH, 1)
    where = x.squeeze(-1).argmax(dim=1)
    logp = F.log_softmax(model(x), dim=1).squeeze(-1)
    loss = F.nll_loss(logp, where)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 50 == 0:
        print(f"step {step}: loss {loss.item():.4f} acc {(logp.argmax(1) == where).float().mean():.3f}")
