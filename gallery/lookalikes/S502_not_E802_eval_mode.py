"""Wine cultivars; the model was put into evaluation mode for a look at the start, and only its dropout minds."""
import torch
from sklearn.datasets import load_wine
from torch import nn

torch.manual_seed(0)
X, y = load_wine(return_X_y=True)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
y = torch.tensor(y)
model = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 3))
model.eval()
with torch.no_grad():
    print("before:", nn.functional.cross_entropy(model(X), y).item())
rate = 2e-6  # <- fault: rate = 5e-3
optimizer = torch.optim.Adam(model.parameters(), lr=rate)
for epoch in range(40):
    for rows in torch.randperm(len(X)).split(30):
        loss = nn.functional.cross_entropy(model(X[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 8 == 7:
        print(epoch + 1, loss.item())
