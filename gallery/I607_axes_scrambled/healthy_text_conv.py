"""Tag each character of a line as word start, word rest or separator, with a 1-d convolution."""
import inspect
import textwrap

import torch
import torch.nn as nn
import torch.nn.functional as F

LENGTH = 40
lines = [s.strip() for s in (inspect.getsource(textwrap) + inspect.getsource(inspect)).split("\n")]
lines = [s[:LENGTH] for s in lines if len(s) >= LENGTH and s.isascii()]


def tags(s):
    return [2 if not c.isalnum() else int(i > 0 and s[i - 1].isalnum()) for i, c in enumerate(s)]


codes = torch.tensor([[ord(c) for c in s] for s in lines])
target = torch.tensor([tags(s) for s in lines])


class CharCNN(nn.Module):
    def __init__(self, dim=12, filters=24, n_tags=3):
        super().__init__()
        self.embed = nn.Embedding(128, dim)
        self.conv = nn.Conv1d(dim, filters, kernel_size=3, padding=1)
        self.out = nn.Conv1d(filters, n_tags, kernel_size=1)

    def forward(self, codes):
        e = self.embed(codes)
        e = e.transpose(1, 2)
        return self.out(F.relu(self.conv(e)))


torch.manual_seed(1)
model = CharCNN()
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
print(f"{len(lines)} lines, tag frequencies {torch.bincount(target.flatten()).tolist()}")
for step in range(1, 301):
    idx = torch.randint(len(codes), (48,))
    out = model(codes[idx])
    loss = F.cross_entropy(out, target[idx])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        acc = (out.argmax(1) == target[idx]).float().mean().item()
        print(f"step {step}: loss {loss.item():.4f} acc {acc:.3f}")
