"""Before the long run: can the transformer memorise eight sentences? One fixed batch."""

import torch
import torch.nn as nn

torch.manual_seed(0)
SENTENCES = [
    "the cat sat on the mat",
    "a bird in the hand is worth two",
    "to be or not to be",
    "all that glitters is not gold",
    "the early bird gets the worm",
    "time and tide wait for none",
    "a rolling stone gathers no moss",
    "actions speak louder than words",
]
vocab = {w: i + 1 for i, w in enumerate(sorted({w for s in SENTENCES for w in s.split()}))}
rows = [[vocab[w] for w in s.split()] for s in SENTENCES]
longest = max(map(len, rows))
batch = torch.tensor([r + [0] * (longest - len(r)) for r in rows])


class TinyGPT(nn.Module):
    def __init__(self, n_vocab, d=48):
        super().__init__()
        self.embed = nn.Embedding(n_vocab, d, padding_idx=0)
        self.pos = nn.Parameter(torch.randn(1, longest, d) * 0.02)
        layer = nn.TransformerEncoderLayer(d, 4, 96, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(d, n_vocab)

    def forward(self, ids):
        t = ids.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(t)
        return self.head(self.encoder(self.embed(ids) + self.pos[:, :t], mask=mask, is_causal=True))


model = TinyGPT(len(vocab) + 1)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
loss_fn = nn.CrossEntropyLoss(ignore_index=0)
for step in range(1, 151):
    logits = model(batch[:, :-1])
    loss = loss_fn(logits.flatten(0, 1), batch[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 25 == 0:
        print(f"step {step} loss {loss.item():.4f}")
