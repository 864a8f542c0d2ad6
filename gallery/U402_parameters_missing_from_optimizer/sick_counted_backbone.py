"""Small CNN with a lower learning rate for the backbone than for the head."""
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(24, 3), nn.Tanh(),
        )
        self.head = nn.Linear(3, 10)

    def forward(self, x):
        return self.head(self.backbone(x))


torch.manual_seed(0)
digits = load_digits()
dataset = TensorDataset(torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16,
                        torch.tensor(digits.target))
train_set, val_set = random_split(dataset, [1500, len(dataset) - 1500])
train_loader = DataLoader(train_set, batch_size=50, shuffle=True)
val_loader = DataLoader(val_set, batch_size=297)

model = Net()
backbone_params = model.backbone.parameters()
head_params = model.head.parameters()
print(f"backbone has {sum(p.numel() for p in backbone_params)} weights")
optimizer = torch.optim.Adam([
    {"params": backbone_params, "lr": 1e-2},  # <- fault
    {"params": head_params, "lr": 3e-2},
])
criterion = nn.CrossEntropyLoss()
for epoch in range(11):
    model.train()
    for xb, yb in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for xb, yb in val_loader:
            out = model(xb)
            print(f"epoch {epoch + 1}: train {loss.item():.3f}, val {criterion(out, yb).item():.3f}, "
                  f"acc {(out.argmax(1) == yb).float().mean().item():.3f}")
