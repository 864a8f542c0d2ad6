"""Is a part within tolerance: logistic model on sensor readings, plain tensors and full batches."""
import torch
import torch.nn.functional as F

torch.manual_seed(2)
n = 800
metres = 0.004 * torch.randn(n, 4)
kelvin = torch.randn(n, 3)
within = (metres @ torch.tensor([1.0, -1.0, 0.7, 0.5]) > 0).float()
scale = metres.std(0)
inputs = torch.cat([metres / scale, kelvin], dim=1)

w = torch.zeros(7, requires_grad=True)
b = torch.zeros(1, requires_grad=True)
optimizer = torch.optim.SGD([w, b], lr=6.0)
for step in range(1, 601):
    logits = inputs @ w + b
    loss = F.binary_cross_entropy_with_logits(logits, within)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 60 == 0:
        acc = ((logits > 0).float() == within).float().mean().item()
        print(f"step {step:3d}  loss {loss.item():.4f}  accuracy {acc:.3f}")
