"""Card payments: find the few frauds among many normal payments, with SGD and BCE."""
import torch
import torch.nn as nn
from sklearn.datasets import make_classification
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X, y = make_classification(
    n_samples=3000, n_features=12, n_informative=5, n_redundant=0, weights=[0.97], flip_y=0,
    n_clusters_per_class=1, class_sep=0.5, random_state=2,
)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
y = torch.tensor(y, dtype=torch.float32)
loader = DataLoader(TensorDataset(X, y), batch_size=50, shuffle=True)

model = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
criterion = nn.BCEWithLogitsLoss(pos_weight=(y == 0).sum() / (y == 1).sum())

for epoch in range(15):
    losses = []
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = criterion(model(xb).squeeze(1), yb)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        flagged = model(X).squeeze(1) > 0
    accuracy = (flagged == (y == 1)).float().mean().item()
    recall = flagged[y == 1].float().mean().item()
    print(f"epoch {epoch + 1}: loss {sum(losses) / len(losses):.4f} "
          f"accuracy {accuracy:.3f} fraud recall {recall:.3f}")
