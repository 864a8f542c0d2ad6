"""Wine cultivars: a small network trained full batch."""
import torch
import torch.nn as nn
from sklearn.datasets import load_wine
from sklearn.preprocessing import scale


class WineNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1 = nn.Linear(13, 24)
        self.l2 = nn.Linear(24, 3)

    def forward(self, x):
        x = torch.relu(self.l1(x))
        x = self.l2(x)
        return x

    def predict(self, x):
        return self(x).argmax(dim=1)


def main():
    torch.manual_seed(11)
    wine = load_wine()
    x = torch.tensor(scale(wine.data), dtype=torch.float32)
    y = torch.tensor(wine.target)
    net = WineNet()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
    for epoch in range(300):
        net.train()
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        if (epoch + 1) % 50 == 0:
            acc = (net.predict(x) == y).double().mean().item()
            print("Epoch [%d/300] Loss: %.4f Accuracy: %.3f" % (epoch + 1, loss.item(), acc))


main()
