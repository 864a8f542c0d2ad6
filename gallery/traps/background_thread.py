"""The training runs in a worker thread while the main thread reports progress."""
import queue
import threading

import torch
import torch.nn as nn
from sklearn.datasets import load_digits


def train(reports, epochs=6):
    torch.manual_seed(0)
    X, y = load_digits(return_X_y=True)
    X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
    model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(epochs):
        total = 0.0
        for idx in torch.randperm(len(X)).split(50):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(idx)
        reports.put((epoch, total / len(X)))
    reports.put(None)


reports = queue.Queue()
worker = threading.Thread(target=train, args=(reports,))
worker.start()
while (item := reports.get()) is not None:
    print("epoch %d loss %.4f" % item)
worker.join()
