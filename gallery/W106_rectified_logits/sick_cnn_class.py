"""LeNet-like CNN on the 8x8 digits with AdamW and one-cycle learning rate."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class LeNetish(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3)
        self.conv2 = nn.Conv2d(8, 16, 3)
        self.fc1 = nn.Linear(16 * 4 * 4, 40)
        self.fc2 = nn.Linear(40, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = x.flatten(1)
        x = F.relu(self.fc1(x))
        return F.relu(self.fc2(x))  # <- fault


torch.manual_seed(2)
images, labels = load_digits(return_X_y=True)
images = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16
labels = torch.tensor(labels)

EPOCHS, BS = 6, 48
model = LeNetish()
opt = torch.optim.AdamW(model.parameters(), lr=1e-3)
steps_per_epoch = (len(images) + BS - 1) // BS
sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=0.02, total_steps=EPOCHS * steps_per_epoch)

for epoch in range(EPOCHS):
    hits, total_loss = 0, 0.0
    for b in torch.randperm(len(images)).split(BS):
        out = model(images[b])
        loss = F.cross_entropy(out, labels[b])
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
        hits += (out.argmax(1) == labels[b]).sum().item()
        total_loss += loss.item() * len(b)
    print(f"epoch {epoch}: loss={total_loss / len(images):.4f} acc={hits / len(images):.4f}")
