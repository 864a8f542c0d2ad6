"""Next-character prediction with tied embeddings and a cosine output layer."""
import codecs
import contextlib
import io

import torch
from torch import nn
from torch.nn import functional as F

with contextlib.redirect_stdout(io.StringIO()):
    import this
zen = codecs.decode(this.s, "rot13")
alphabet = sorted(set(zen))
ids = torch.tensor([alphabet.index(c) for c in zen])
CONTEXT = 6


class CosineLM(nn.Module):
    def __init__(self, vocab, dim=48):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.mix = nn.Sequential(nn.Linear(CONTEXT * dim, 128), nn.GELU(), nn.Linear(128, dim))

    def forward(self, ctx):
        h = self.mix(self.embed(ctx).flatten(1))
        h = F.normalize(h, dim=-1)
        w = F.normalize(self.embed.weight, dim=-1)
        return h @ w.t()  # <- fault


torch.manual_seed(0)
windows = ids.unfold(0, CONTEXT + 1, 1)
ctx, nxt = windows[:, :-1], windows[:, -1]
model = CosineLM(len(alphabet))
opt = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
print(f"{len(ctx)} examples, {len(alphabet)} symbols")
for it in range(1, 401):
    pick = torch.randint(len(ctx), (64,))
    loss = F.cross_entropy(model(ctx[pick]), nxt[pick])
    opt.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    if it % 80 == 0:
        with torch.no_grad():
            acc = (model(ctx).argmax(-1) == nxt).float().mean()
        print(f"iter {it}: loss {loss.item():.3f}, top-1 {acc:.3f}")
