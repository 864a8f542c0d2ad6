"""Few noisy training examples, a wide network with dropout, validation after every epoch."""
import torch
from sklearn.datasets import make_classification
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class WideNet(nn.Module):
    def __init__(self, n_in=40, width=256, n_out=4):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(n_in, width), nn.ReLU(), nn.Dropout(0.6),
            nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.6),
            nn.Linear(width, n_out),
        )

    def forward(self, x):
        return self.net(x)


def validate(model, loader, loss_fn):
    model.eval()
    total = hits = count = 0
    with torch.no_grad():
        for x, y in loader:
            out = model(x)
            total += loss_fn(out, y).item() * len(y)
            hits += (out.argmax(1) == y).sum().item()
            count += len(y)
    return total / count, hits / count


torch.manual_seed(0)
X, y = make_classification(1800, 40, n_informative=10, n_redundant=0, n_classes=4, flip_y=0.3,
                           class_sep=1.8, random_state=3)
X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
train_loader = DataLoader(TensorDataset(X[:400], y[:400]), batch_size=25, shuffle=True)
val_loader = DataLoader(TensorDataset(X[400:], y[400:]), batch_size=700)
model = WideNet()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
validate(model, val_loader, loss_fn)
for epoch in range(24):
    model.eval()  # <- fault
    total = 0.0
    for xb, yb in train_loader:
        loss = loss_fn(model(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(yb)
    if epoch % 3 == 2:
        val_loss, acc = validate(model, val_loader, loss_fn)
        print(f"epoch {epoch + 1:2d} train {total / 400:.4f} val {val_loss:.4f} val acc {acc:.3f}")
