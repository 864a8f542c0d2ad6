"""Two hidden layers written with plain tensors, eight clusters in twenty dimensions."""
import torch
import torch.nn.functional as F
from sklearn.datasets import make_classification

torch.manual_seed(3)
X, y = make_classification(n_samples=2000, n_features=20, n_informative=12, n_redundant=2,
                           n_classes=8, n_clusters_per_class=1, class_sep=2.0, random_state=3)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
y = torch.tensor(y)
Xtr, ytr, Xva, yva = X[:1600], y[:1600], X[1600:], y[1600:]


def layer(n_in, n_out):
    w = torch.randn(n_in, n_out) * (2.0 / n_in) ** 0.5
    return w.requires_grad_(), torch.zeros(n_out, requires_grad=True)


w1, b1 = layer(20, 64)
w2, b2 = layer(64, 64)
w3, b3 = layer(64, 8)
params = [w1, b1, w2, b2, w3, b3]


def forward(x):
    h = F.relu(x @ w1 + b1)
    h = F.relu(h @ w2 + b2)
    return h @ w3 + b3


opt = torch.optim.SGD(params, lr=1e-2, momentum=0.9)
for epoch in range(25):
    perm = torch.randperm(len(Xtr))
    losses = []
    for i in range(0, len(Xtr), 50):
        batch = perm[i:i + 50]
        loss = F.cross_entropy(forward(Xtr[batch]), ytr[batch])
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    if epoch % 3 == 0:
        with torch.no_grad():
            va = (forward(Xva).argmax(1) == yva).float().mean().item()
        print(f"epoch {epoch:2d} loss {sum(losses) / len(losses):.4f} val {va:.3f}")
