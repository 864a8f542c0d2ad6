"""Wine cultivars from chemistry: a three-layer network with orthogonal initialisation, SGD."""
import torch
import torch.nn.functional as F
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn


class WineNet(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.fc1 = nn.Linear(13, width)
        self.fc2 = nn.Linear(width, width)
        self.fc3 = nn.Linear(width, 3)

    def forward(self, x):
        x = torch.tanh(self.fc1(x))
        x = torch.tanh(self.fc2(x))
        return self.fc3(x)


def orthogonal_init(model):
    for layer in model.children():
        w = torch.empty_like(layer.weight)
        nn.init.orthogonal_(w)
        layer.weight = nn.Parameter(w)
        layer.bias = nn.Parameter(torch.zeros_like(layer.bias))


def main():
    torch.manual_seed(3)
    X, y = load_wine(return_X_y=True)
    X_train, X_val, y_train, y_val = train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)
    scaler = StandardScaler().fit(X_train)
    X_train = torch.from_numpy(scaler.transform(X_train)).float()
    X_val = torch.from_numpy(scaler.transform(X_val)).float()
    y_train, y_val = torch.from_numpy(y_train), torch.from_numpy(y_val)

    model = WineNet()
    orthogonal_init(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(40):
        model.train()
        for idx in torch.randperm(len(X_train)).split(16):
            loss = F.cross_entropy(model(X_train[idx]), y_train[idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if (epoch + 1) % 10 == 0:
            model.eval()
            with torch.no_grad():
                out = model(X_val)
                val_loss = F.cross_entropy(out, y_val)
                acc = (out.argmax(dim=1) == y_val).float().mean()
            print(f"[{epoch + 1}/40] val loss: {val_loss:.4f} val acc: {acc:.3f}")


if __name__ == "__main__":
    main()
