"""A network trained on the digits 0-4 is adapted to 5-9: only the new classifier is trained."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class DigitNet(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1)
        self.fc_norm = nn.LayerNorm(256)
        self.classifier = nn.Linear(256, n_classes)
        nn.init.normal_(self.classifier.weight, std=0.01)

    def forward(self, x):
        h = F.max_pool2d(F.relu(self.conv(x)), 2).flatten(1)
        return self.classifier(self.fc_norm(h))


def run_epochs(model, x, y, epochs, lr):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=0.9)
    for epoch in range(epochs):
        total, hit = 0.0, 0
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            out = model(x[rows])
            loss = F.cross_entropy(out, y[rows])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
            hit += (out.argmax(1) == y[rows]).sum().item()
        print(f"  epoch {epoch + 1} loss {total / len(x):.4f} acc {hit / len(x):.3f}")


torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
y = torch.tensor(digits.target)
small, large = y < 5, y >= 5

print("pretraining on 0-4")
model = DigitNet(5)
run_epochs(model, x[small], y[small], 3, 0.05)

print("fine-tuning on 5-9")
model.classifier = nn.Linear(256, 5)
nn.init.normal_(model.classifier.weight, std=0.01)
for name, p in model.named_parameters():
    p.requires_grad = "fc" in name  # <- fault
run_epochs(model, x[large], y[large] - 5, 8, 0.002)
