"""Distil a wide teacher into a narrow student with temperature-scaled KL plus hard labels."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X).float() / 16, torch.tensor(y)
teacher = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
student = nn.Sequential(nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))


def fit(model, loss_of, steps, lr):
    opt = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(1, steps + 1):
        i = torch.randint(len(X), (64,))
        loss = loss_of(model(X[i]), i)
        opt.zero_grad()
        loss.backward()
        opt.step()
        if step % 75 == 0:
            acc = (model(X).argmax(1) == y).float().mean().item()
            print(f"  step {step}: loss {loss.item():.4f} acc {acc:.3f}")


print("teacher")
fit(teacher, lambda out, i: F.cross_entropy(out, y[i]), 150, 5e-3)
teacher.eval()
T, alpha = 3.0, 0.7
kl = nn.KLDivLoss(reduction="batchmean")


def distill(out, i):
    with torch.no_grad():
        soft = F.softmax(teacher(X[i]) / T, dim=1)
    return alpha * T * T * kl(F.log_softmax(out / T, dim=1), soft) + (1 - alpha) * F.cross_entropy(out, y[i])


print("student")
fit(student, distill, 225, 1e-2)
