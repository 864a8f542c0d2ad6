"""Is a sequence's running sum positive at the end? An LSTM classifier on generated series."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class Walks(Dataset):
    def __init__(self, n=1024, length=12, seed=0):
        g = torch.Generator().manual_seed(seed)
        self.x = torch.randn(n, length, 1, generator=g)
        self.y = (self.x.sum(dim=(1, 2)) > 0).float()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class SignLSTM(nn.Module):
    def __init__(self, hidden=24):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        _, (h, _) = self.lstm(x)
        return torch.sigmoid(self.head(h[-1])).squeeze(-1)


torch.manual_seed(0)
train = DataLoader(Walks(), batch_size=32, shuffle=True)
model = SignLSTM()
optim = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(6):
    losses, right, seen = [], 0, 0
    for x, y in train:
        prob = model(x)
        loss = F.binary_cross_entropy(prob, y)
        optim.zero_grad()
        loss.backward()
        optim.step()
        losses.append(loss.item())
        right += ((prob > 0.5) == (y > 0.5)).sum().item()
        seen += len(y)
    print(f"epoch {epoch}  bce {sum(losses) / len(losses):.4f}  acc {right / seen:.3f}")
