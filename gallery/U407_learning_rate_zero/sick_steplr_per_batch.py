"""CNN on the 8x8 digits, learning rate cut by ten every other epoch."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset


class SmallCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
        self.classifier = nn.Linear(64, 10)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def train(model, loader, optimizer, scheduler, epoch):
    model.train()
    for batch, (x, y) in enumerate(loader):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        scheduler.step()  # <- fault
        if batch % 12 == 0:
            print(f"epoch {epoch} [{batch}/{len(loader)}] loss {loss.item():.4f}")


@torch.no_grad()
def evaluate(model, x, y):
    model.eval()
    out = model(x)
    print(f"  test loss {F.cross_entropy(out, y).item():.4f} acc {(out.argmax(1) == y).float().mean().item():.3f}")


torch.manual_seed(0)
d = load_digits()
x = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1) / 16
y = torch.tensor(d.target)
loader = DataLoader(TensorDataset(x[:1500], y[:1500]), batch_size=50, shuffle=True)
net = SmallCNN()
optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
scheduler = StepLR(optimizer, step_size=2, gamma=0.1)
for epoch in range(5):
    train(net, loader, optimizer, scheduler, epoch)
    evaluate(net, x[1500:], y[1500:])
