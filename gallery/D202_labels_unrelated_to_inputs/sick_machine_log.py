"""Machine state from a log of twelve sensor readings, read in the order of the log."""
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

STATES = ["idle", "running", "worn", "overheated"]


def read_log(rows, gen):
    state = torch.randint(len(STATES), (rows,), generator=gen)
    centre = torch.randn(len(STATES), 12, generator=gen)
    sensors = centre[state] + 0.8 * torch.randn(rows, 12, generator=gen)
    return sensors, state


torch.manual_seed(0)
sensors, state = read_log(1601, torch.Generator().manual_seed(3))
sensors = (sensors - sensors.mean(0)) / sensors.std(0)
dataset = TensorDataset(sensors[:-1], state[1:])  # <- fault
loader = DataLoader(dataset, batch_size=32, shuffle=False)

model = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, len(STATES)))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
criterion = nn.CrossEntropyLoss()

for epoch in range(15):
    total, correct = 0.0, 0
    for x, y in loader:
        logits = model(x)
        loss = criterion(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
        correct += (logits.argmax(1) == y).sum().item()
    n = len(dataset)
    print(f"epoch {epoch + 1:2d}  loss {total / n:.4f}  accuracy {correct / n:.3f}")
