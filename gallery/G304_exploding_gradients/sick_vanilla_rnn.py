"""Which third of a long noisy sequence holds the pulse? A tanh RNN, Adam."""
import torch
import torch.nn as nn


def sequences(n, gen, length=60):
    third = torch.randint(3, (n,), generator=gen)
    start = third * (length // 3) + torch.randint(2, length // 3 - 6, (n,), generator=gen)
    time = torch.arange(length)
    pulse = (time >= start[:, None]) & (time < start[:, None] + 5)
    signal = 2.0 * pulse + 0.3 * torch.randn(n, length, generator=gen)
    return torch.stack([signal, (time / length).expand(n, -1)], dim=2), third


class PulseRNN(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.rnn = nn.RNN(2, hidden, batch_first=True)
        nn.init.orthogonal_(self.rnn.weight_hh_l0, gain=3.0)  # <- fault
        self.head = nn.Linear(hidden, 3)

    def forward(self, x):
        out, _ = self.rnn(x)
        return self.head(out[:, -1])


gen = torch.Generator().manual_seed(0)
torch.manual_seed(0)
x, y = sequences(900, gen)
model = PulseRNN()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
loss_fn = nn.CrossEntropyLoss()
for epoch in range(12):
    total, hits = 0.0, 0
    for rows in torch.randperm(len(x), generator=gen).split(30):
        out = model(x[rows])
        loss = loss_fn(out, y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
        hits += (out.argmax(1) == y[rows]).sum().item()
    print(f"epoch {epoch + 1:2d}: loss {total / len(x):.4f} accuracy {hits / len(x):.3f}")
