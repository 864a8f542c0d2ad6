"""Classification and reconstruction from one encoder; each loss gets its own backward call before a single step."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 48), nn.ReLU())
        self.classifier = nn.Linear(48, 10)
        self.decoder = nn.Linear(48, 64)

    def forward(self, x):
        h = self.encoder(x)
        return self.classifier(h), self.decoder(h)


torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(8):
    ce_sum = mse_sum = 0.0
    for idx in torch.randperm(len(X)).split(64):
        logits, rebuilt = net(X[idx])
        ce, mse = F.cross_entropy(logits, y[idx]), F.mse_loss(rebuilt, X[idx])
        optimizer.zero_grad()
        ce.backward(retain_graph=True)
        (0.5 * mse).backward()
        optimizer.step()
        ce_sum, mse_sum = ce_sum + ce.item() * len(idx), mse_sum + mse.item() * len(idx)
    print(f"epoch {epoch + 1} ce {ce_sum / len(X):.4f} mse {mse_sum / len(X):.4f}")
