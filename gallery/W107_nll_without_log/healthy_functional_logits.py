"""Wine classification with torch.nn.functional and a plateau scheduler."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler


class Classifier(nn.Module):
    def __init__(self, d_in, d_hidden, n_classes):
        super().__init__()
        self.fc1 = nn.Linear(d_in, d_hidden)
        self.drop = nn.Dropout(0.2)
        self.fc2 = nn.Linear(d_hidden, n_classes)

    def forward(self, x):
        return self.fc2(self.drop(F.relu(self.fc1(x))))


def evaluate(model, x, y):
    model.eval()
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()


def run():
    torch.manual_seed(0)
    data = load_wine()
    xtr, xte, ytr, yte = train_test_split(data.data, data.target, test_size=0.3, random_state=0)
    ss = StandardScaler().fit(xtr)
    xtr, xte = (torch.tensor(ss.transform(a), dtype=torch.float32) for a in (xtr, xte))
    ytr, yte = torch.tensor(ytr), torch.tensor(yte)

    model = Classifier(13, 32, 3)
    opt = torch.optim.Adam(model.parameters(), lr=0.02)
    sched = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, factor=0.5, patience=20)
    for step in range(300):
        model.train()
        pick = torch.randperm(len(xtr))[:32]
        scores = model(xtr[pick])
        loss = F.cross_entropy(scores, ytr[pick])
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step(loss.item())
        if step % 50 == 49:
            print(f"step {step + 1}: loss {loss.item():.4f} test acc {evaluate(model, xte, yte):.3f}")


run()
