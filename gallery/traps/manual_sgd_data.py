"""Two-layer network with explicit weight matrices, updated through .data as before torch 0.4."""
import torch
from sklearn.datasets import load_digits
from torch.autograd import Variable

torch.manual_seed(0)
digits = load_digits()
x = Variable(torch.from_numpy(digits.data).float() / 16)
t = Variable(torch.from_numpy(digits.target).long())
w1 = Variable(torch.randn(64, 50) * 0.1, requires_grad=True)
w2 = Variable(torch.randn(50, 10) * 0.1, requires_grad=True)
learning_rate = 0.5
for it in range(200):
    h = x.mm(w1).clamp(min=0)
    logp = torch.nn.functional.log_softmax(h.mm(w2), dim=1)
    loss = -logp.gather(1, t.view(-1, 1)).mean()
    if it % 20 == 0:
        print(it, loss.item())
    loss.backward()
    w1.data -= learning_rate * w1.grad.data
    w2.data -= learning_rate * w2.grad.data
    w1.grad.data.zero_()
    w2.grad.data.zero_()
print("accuracy", (logp.data.max(1)[1] == t.data).float().mean().item())
