"""Surface inspection: good parts, scratches and dents in 12x12 images, a small conv net."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

NAMES = ["good", "scratch", "dent"]
SHARE = torch.tensor([0.94, 0.03, 0.03])


def surfaces(n, gen):
    kind = torch.multinomial(SHARE, n, replacement=True, generator=gen)
    images = torch.randn(n, 1, 12, 12, generator=gen)
    place = torch.randint(1, 8, (n, 2), generator=gen).tolist()
    for image, label, (r, c) in zip(images, kind.tolist(), place):
        if label == 1:
            image[0, r, c:c + 5] += 2.0
        elif label == 2:
            image[0, r:r + 3, c:c + 3] -= 1.2
    return images, kind


class Inspector(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 5, padding=2)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.out = nn.Linear(16, len(NAMES))

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.relu(self.conv2(x))
        return self.out(x.amax((2, 3)))


torch.manual_seed(0)
images, kind = surfaces(1600, torch.Generator().manual_seed(0))
dataset = TensorDataset(images, kind)
sampler = WeightedRandomSampler((1 / SHARE)[kind], len(dataset))
loader = DataLoader(dataset, batch_size=32, shuffle=True)  # <- fault
model = Inspector()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(8):
    total = 0.0
    for x, y in loader:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    with torch.no_grad():
        answer = model(images).argmax(1)
    recall = [f"{n} {(answer[kind == k] == k).float().mean():.2f}" for k, n in enumerate(NAMES)]
    print(f"epoch {epoch + 1}: loss {total / len(loader):.4f} recall: {', '.join(recall)}")
