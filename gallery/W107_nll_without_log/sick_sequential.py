"""MNIST-style tutorial network on the small digits with SGD and NLLLoss."""
import torch
from torch import nn, optim
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(1)
images, labels = load_digits(return_X_y=True)
images = torch.from_numpy(images).float().div(8).sub(1)
labels = torch.from_numpy(labels)
trainloader = DataLoader(TensorDataset(images, labels), batch_size=64, shuffle=True)

model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(),
                      nn.Linear(128, 64), nn.ReLU(),
                      nn.Linear(64, 10), nn.Softmax(dim=1))  # <- fault
criterion = nn.NLLLoss()
optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.5)

epochs = 15
for e in range(epochs):
    running_loss = 0
    correct = 0
    for xb, yb in trainloader:
        optimizer.zero_grad()
        output = model(xb)
        loss = criterion(output, yb)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
        correct += (output.argmax(dim=1) == yb).sum().item()
    print(f"Epoch {e} - Training loss: {running_loss / len(trainloader):.4f} - accuracy: {correct / len(labels):.3f}")
