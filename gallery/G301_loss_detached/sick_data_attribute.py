"""CNN on digits, class scores taken as plain values before the criterion."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.autograd import Variable


class LeNetish(nn.Module):
    def __init__(self):
        super(LeNetish, self).__init__()
        self.conv1 = nn.Conv2d(1, 6, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(6, 12, kernel_size=3)
        self.fc1 = nn.Linear(12, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.view(x.size(0), -1)))
        return self.fc2(x)


torch.manual_seed(1)
digits = load_digits()
images = torch.from_numpy(digits.images).float().unsqueeze(1) / 16
targets = torch.from_numpy(digits.target).long()
net = LeNetish()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
for epoch in range(14):
    running_loss = 0.0
    for i in range(0, 1600, 40):
        inputs, labels = Variable(images[i:i + 40]), Variable(targets[i:i + 40])
        optimizer.zero_grad()
        outputs = net(inputs)
        loss = criterion(Variable(outputs.data, requires_grad=True), labels)  # <- fault
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
    print("[%d] loss: %.3f" % (epoch + 1, running_loss / 40))
print("Finished Training")
