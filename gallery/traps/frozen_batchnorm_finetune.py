"""Fine-tuning on shifted digits with every BatchNorm kept in eval mode, as detection code does."""

import torch
import torch.nn as nn
from sklearn.datasets import load_digits


class Net(nn.Module):
    def __init__(self, freeze_bn=False):
        super().__init__()
        self.freeze_bn = freeze_bn
        self.features = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
        )
        self.fc = nn.Linear(96, 10)

    def train(self, mode=True):
        super().train(mode)
        if self.freeze_bn:
            for m in self.modules():
                if isinstance(m, nn.BatchNorm2d):
                    m.eval()
        return self

    def forward(self, x):
        return self.fc(self.features(x).flatten(1))


def fit(model, x, y, lr, epochs, name):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for epoch in range(epochs):
        model.train()
        for idx in torch.randperm(1400).split(64):
            loss = nn.functional.cross_entropy(model(x[idx]), y[idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            acc = (model(x[1400:]).argmax(1) == y[1400:]).float().mean()
        print(f"{name} epoch {epoch + 1} loss {loss.item():.4f} test acc {acc:.3f}")


torch.manual_seed(0)
d = load_digits()
images, labels = torch.tensor(d.images / 16, dtype=torch.float32)[:, None], torch.tensor(d.target)
base = Net()
fit(base, images, labels, 0.1, 4, "pretrain")
tuned = Net(freeze_bn=True)
tuned.load_state_dict(base.state_dict())
fit(tuned, images.roll(1, dims=3) * 0.8, labels, 0.02, 5, "finetune")
