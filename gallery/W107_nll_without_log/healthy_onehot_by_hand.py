"""Digits with a GRU over image rows; the likelihood of the right class picked with a one-hot mask."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class RowGRU(nn.Module):
    def __init__(self, hidden=40):
        super().__init__()
        self.gru = nn.GRU(8, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, 10)

    def forward(self, img):
        _, h = self.gru(img)
        return self.fc(h.squeeze(0))

    def loss(self, img, label):
        mask = F.one_hot(label, 10)
        p = torch.log_softmax(self(img), dim=-1)
        return -(mask * p).sum(dim=-1).mean()


torch.manual_seed(0)
d = load_digits()
data = TensorDataset(torch.tensor(d.images).float() / 16, torch.tensor(d.target))
model = RowGRU()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for epoch in range(8):
    total = 0.0
    for img, label in DataLoader(data, batch_size=64, shuffle=True, drop_last=True):
        loss = model.loss(img, label)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
    with torch.no_grad():
        acc = (model(data.tensors[0]).argmax(1) == data.tensors[1]).float().mean().item()
    print(f"epoch {epoch}: loss {total / 28:.4f} accuracy {acc:.3f}")
