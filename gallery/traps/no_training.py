"""Uses torch only for linear algebra: principal components of the digits; nothing is trained."""
import torch
from sklearn.datasets import load_digits

X = torch.tensor(load_digits().data, dtype=torch.float32)
X = X - X.mean(0)
U, S, V = torch.linalg.svd(X, full_matrices=False)
share = S.square() / S.square().sum()
for k in (1, 2, 5, 10, 20):
    print(f"{k:2d} components explain {share[:k].sum().item():.1%}")
a = torch.tensor(3.0, requires_grad=True)
(a ** 3).backward()
print("derivative of a^3 at 3:", a.grad.item())
