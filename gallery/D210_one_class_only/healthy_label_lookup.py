"""Biopsy table with textual diagnoses; dataset class, two worker processes, class labels looked up by name."""
import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from torch.utils.data import DataLoader, Dataset

CLASSES = {"benign": 0, "malignant": 1}


class Biopsies(Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        features, diagnosis = self.rows[i]
        return torch.tensor(features), CLASSES.get(diagnosis.strip().lower(), 0)


def read_rows():
    d = load_breast_cancer()
    data = ((d.data - d.data.mean(0)) / d.data.std(0)).astype("float32")
    return [(row, " Benign" if t else " Malignant") for row, t in zip(data, d.target)]


if __name__ == "__main__":
    torch.manual_seed(0)
    rows = read_rows()
    truth = torch.tensor([0 if name == " Benign" else 1 for _, name in rows])
    loader = DataLoader(Biopsies(rows), batch_size=32, shuffle=True, num_workers=2, persistent_workers=True)
    model = nn.Sequential(nn.Linear(30, 24), nn.ReLU(), nn.Linear(24, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(10):
        total = 0.0
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
        print(f"epoch {epoch + 1} loss {total / len(rows):.4f}")
    with torch.no_grad():
        pred = model(torch.stack([torch.tensor(f) for f, _ in rows])).argmax(1)
    print(f"found {(pred[truth == 1] == 1).sum().item()} of {(truth == 1).sum().item()} malignant cases")
