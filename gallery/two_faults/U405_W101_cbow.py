"""Fill in the missing character from three neighbours on either side (CBOW with a hidden layer)."""
import inspect
import textwrap

import torch
import torch.nn as nn
import torch.nn.functional as F

text = inspect.getsource(textwrap)
alphabet = sorted(set(text))
ids = torch.tensor([alphabet.index(c) for c in text])
windows = ids.unfold(0, 7, 1)


class FillIn(nn.Module):
    def __init__(self, vocab, dim=16, hidden=96):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.hidden = nn.Linear(6 * dim, hidden)
        self.out = nn.Linear(hidden, vocab)

    def forward(self, context):
        h = torch.tanh(self.hidden(self.embed(context).flatten(1)))
        return F.softmax(self.out(h), dim=-1)  # <- fault W101


torch.manual_seed(0)
net = FillIn(len(alphabet))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
hits = 0.0
for step in range(1, 801):
    batch = windows[torch.randint(len(windows), (50,))]
    context, target = batch[:, [0, 1, 2, 4, 5, 6]], batch[:, 3]
    out = net(context)
    loss = criterion(out, target)
    loss.backward()  # <- fault U405
    optimizer.step()
    hits += (out.argmax(1) == target).float().mean().item()
    if step % 100 == 0:
        print(f"step {step} loss {loss.item():.4f} accuracy {hits / 100:.3f}")
        hits = 0.0
