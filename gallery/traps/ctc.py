"""CTC on generated strips: each symbol is a noisy 3-frame pattern separated by silence."""
import torch
import torch.nn as nn

torch.manual_seed(0)
SYMBOLS, FRAMES, DIM = 5, 18, 8
patterns = torch.randn(SYMBOLS + 1, DIM)
patterns[0] = 0


def make_batch(n=24):
    x = torch.zeros(n, FRAMES, DIM)
    y = torch.randint(1, SYMBOLS + 1, (n, 4))
    for j in range(4):
        start = 4 * j + 1
        x[:, start:start + 3] = patterns[y[:, j]].unsqueeze(1)
    return x + 0.2 * torch.randn_like(x), y


class Recogniser(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(DIM, 24, batch_first=True, bidirectional=True)
        self.out = nn.Linear(48, SYMBOLS + 1)

    def forward(self, x):
        return self.out(self.rnn(x)[0]).log_softmax(dim=2)


model = Recogniser()
ctc = nn.CTCLoss(blank=0)
opt = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(1, 151):
    x, y = make_batch()
    logp = model(x)
    loss = ctc(logp.transpose(0, 1), y, torch.full((len(x),), FRAMES), torch.full((len(x),), 4))
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    opt.step()
    if step % 30 == 0:
        best = logp.argmax(-1)
        decoded = [[t for t in torch.unique_consecutive(row).tolist() if t] for row in best]
        print(f"step {step}: ctc {loss.item():.4f} exact {sum(d == t.tolist() for d, t in zip(decoded, y)) / len(y):.3f}")
