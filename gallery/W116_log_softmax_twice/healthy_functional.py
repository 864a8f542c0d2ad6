"""PyTorch MNIST-example style network on the small digits."""
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from sklearn.datasets import load_digits


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, 1)
        self.dropout = nn.Dropout(0.25)
        self.fc1 = nn.Linear(8 * 9, 48)
        self.fc2 = nn.Linear(48, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(x, 2)
        x = self.dropout(torch.flatten(x, 1))
        x = F.relu(self.fc1(x))
        x = self.fc2(x)
        return x


def train(model, data, target, optimizer, epoch):
    model.train()
    for batch_idx, rows in enumerate(torch.randperm(len(data)).split(64)):
        optimizer.zero_grad()
        output = model(data[rows])
        loss = F.cross_entropy(output, target[rows])
        loss.backward()
        optimizer.step()
        if batch_idx % 10 == 0:
            print(f"Train Epoch: {epoch} [{batch_idx * 64}/{len(data)}]\tLoss: {loss.item():.6f}")


def test(model, data, target):
    model.eval()
    with torch.no_grad():
        output = model(data)
        print(f"Test set: loss {F.cross_entropy(output, target).item():.4f}, "
              f"accuracy {(output.argmax(1) == target).float().mean().item():.3f}")


if __name__ == "__main__":
    torch.manual_seed(1)
    d = load_digits()
    x = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1) / 16
    t = torch.tensor(d.target)
    net = Net()
    optimizer = optim.Adadelta(net.parameters(), lr=1.0)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.8)
    for epoch in range(1, 7):
        train(net, x[:1400], t[:1400], optimizer, epoch)
        test(net, x[1400:], t[1400:])
        scheduler.step()
