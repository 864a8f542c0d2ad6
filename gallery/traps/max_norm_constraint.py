"""Max-norm constraint on the rows of every weight matrix, and clipped weights, after each step."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


@torch.no_grad()
def constrain(model, max_norm=2.0, bound=1.0):
    for module in model:
        if isinstance(module, nn.Linear):
            norms = module.weight.norm(dim=1, keepdim=True)
            module.weight.mul_(norms.clamp(max=max_norm) / norms)
            module.weight.clamp_(-bound, bound)


for epoch in range(8):
    total = 0.0
    for idx in torch.randperm(len(X)).split(50):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
        loss.backward()
        optimizer.step()
        constrain(model)
        total += loss.item() * len(idx)
    print(f"epoch {epoch + 1} loss {total / len(X):.4f}")
