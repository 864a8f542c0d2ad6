"""Weather type from 24 hourly readings of pressure (Pa), humidity and wind: an LSTM."""
import torch
import torch.nn as nn

TYPES = ["rising", "falling", "trough", "ridge"]


def days(n, gen):
    label = torch.randint(len(TYPES), (n,), generator=gen)
    hour = torch.linspace(-1, 1, 24)
    shape = torch.stack([hour, -hour, hour ** 2 - 0.3, 0.3 - hour ** 2])[label]
    pressure = 101325 + 600 * shape + 250 * torch.randn(n, 24, generator=gen)
    humidity = 60 + 15 * torch.randn(n, 24, generator=gen)
    wind = 8 + 3 * torch.randn(n, 24, generator=gen)
    return torch.stack([pressure, humidity, wind], dim=2), label


class WeatherLSTM(nn.Module):
    def __init__(self, features=3, hidden=32):
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, len(TYPES))

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.head(out[:, -1])


gen = torch.Generator().manual_seed(0)
torch.manual_seed(0)
readings, labels = days(960, gen)
x = readings  # <- fault
net = WeatherLSTM()
opt = torch.optim.Adam(net.parameters(), lr=0.01)
for epoch in range(10):
    total = hits = 0
    for idx in torch.randperm(len(x)).split(48):
        logits = net(x[idx])
        loss = nn.functional.cross_entropy(logits, labels[idx])
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        total += loss.item() * len(idx)
        hits += (logits.argmax(1) == labels[idx]).sum().item()
    print(f"epoch {epoch + 1}: loss {total / len(x):.4f} accuracy {hits / len(x):.3f}")
