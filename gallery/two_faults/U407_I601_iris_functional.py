"""Iris with raw weight tensors and functional layers, full batch, scheduled momentum SGD."""
import torch
import torch.nn.functional as F
from sklearn.datasets import load_iris

torch.manual_seed(0)
iris = load_iris()
X = torch.tensor((iris.data - iris.data.mean(0)) / iris.data.std(0), dtype=torch.float32)
y = torch.tensor(iris.target)


def new_weight(n_out, n_in):
    w = torch.zeros(n_out, n_in)  # <- fault I601
    return w.requires_grad_()


sizes = [4, 24, 24, 3]
weights = [new_weight(b, a) for a, b in zip(sizes[:-1], sizes[1:])]
biases = [torch.zeros(b, requires_grad=True) for b in sizes[1:]]


def forward(x):
    for w, b in zip(weights[:-1], biases[:-1]):
        x = F.relu(F.linear(x, w, b))
    return F.linear(x, weights[-1], biases[-1])


optimizer = torch.optim.SGD([*weights, *biases], lr=0.05, momentum=0.9)
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda e: e // 400)  # <- fault U407
for epoch in range(300):
    rows = torch.randperm(len(X))[:75]
    loss = F.cross_entropy(forward(X[rows]), y[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    if epoch % 30 == 29:
        with torch.no_grad():
            acc = (forward(X).argmax(1) == y).float().mean().item()
        print(f"epoch {epoch + 1} loss {loss.item():.4f} acc {acc:.3f}")
