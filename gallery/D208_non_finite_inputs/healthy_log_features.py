"""Breast cancer data, log-transformed measurements, MLP with a guard against odd logits."""
import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer


class Classifier(nn.Module):
    def __init__(self, n_in):
        super().__init__()
        self.fc1 = nn.Linear(n_in, 24)
        self.fc2 = nn.Linear(24, 2)

    def forward(self, x):
        logits = self.fc2(torch.tanh(self.fc1(x)))
        return torch.nan_to_num(logits).clamp(-30, 30)


torch.manual_seed(0)
data = load_breast_cancer()
X = torch.log(torch.tensor(data.data, dtype=torch.float32) + 1e-3)
X = (X - X.mean(0)) / X.std(0)
y = torch.tensor(data.target)
model = Classifier(X.shape[1])
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(12):
    total = correct = 0
    for idx in torch.randperm(len(X)).split(32):
        out = model(X[idx])
        loss = nn.functional.cross_entropy(out, y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
        correct += (out.argmax(1) == y[idx]).sum().item()
    print(f"epoch {epoch + 1} loss {total / len(X):.4f} acc {correct / len(X):.3f}")
