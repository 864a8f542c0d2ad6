"""Plain tanh RNN with an orthogonal recurrent matrix: recall the first symbol after a delay."""

import torch
import torch.nn as nn

torch.manual_seed(0)
K, T = 4, 30


class Recall(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.rnn = nn.RNN(K + 1, hidden, batch_first=True)
        self.out = nn.Linear(hidden, K)
        nn.init.orthogonal_(self.rnn.weight_hh_l0)
        nn.init.normal_(self.rnn.weight_ih_l0, std=0.3)
        nn.init.zeros_(self.rnn.bias_hh_l0)
        nn.init.zeros_(self.rnn.bias_ih_l0)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


model = Recall()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
eye = torch.eye(K + 1)
for step in range(1, 301):
    symbol = torch.randint(K, (32,))
    ids = torch.full((32, T), K)
    ids[:, 0] = symbol
    logits = model(eye[ids] + 0.05 * torch.randn(32, T, K + 1))
    loss = nn.functional.cross_entropy(logits, symbol)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 30 == 0:
        print(
            f"step {step} loss {loss.item():.4f}",
            f"acc {(logits.argmax(1) == symbol).float().mean():.3f}",
        )
