"""Builds a network, loads saved weights and classifies; inference only."""
import os
import tempfile

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

torch.manual_seed(0)
d = load_digits()
fitted = LogisticRegression(max_iter=300).fit(d.data[:1500] / 16, d.target[:1500])
path = os.path.join(tempfile.mkdtemp(), "weights.pt")
torch.save({"0.weight": torch.tensor(fitted.coef_).float(), "0.bias": torch.tensor(fitted.intercept_).float()}, path)

model = nn.Sequential(nn.Linear(64, 10))
model.load_state_dict(torch.load(path))
model.eval()
x, y = torch.tensor(d.data[1500:] / 16, dtype=torch.float32), torch.tensor(d.target[1500:])
correct, nll = 0, 0.0
with torch.inference_mode():
    for xb, yb in zip(x.split(50), y.split(50)):
        out = model(xb)
        nll += nn.functional.cross_entropy(out, yb, reduction="sum").item()
        correct += (out.argmax(1) == yb).sum().item()
print(f"test loss {nll / len(x):.4f} accuracy {correct / len(x):.3f}")
