"""What the spy sees of tensors before the model does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from watch import watched

STORED = np.arange(24 * 40 * 5, dtype=np.float32).reshape(24, 40, 5).copy()
ARRAYS = {
    "renamed": (lambda: STORED.reshape(40, 24, 5), True),
    "renamed, cut": (lambda: STORED.reshape(40, 24, 5)[:30], True),
    "renamed, axes swapped after": (lambda: STORED.reshape(5, 40, 24).transpose(1, 2, 0), True),
    "transposed": (lambda: STORED.transpose(1, 0, 2), False),
    "transposed, cut": (lambda: np.swapaxes(STORED, 0, 1)[:30, ::2], False),
    "as it is": (lambda: STORED, False),
    "flattened": (lambda: STORED.reshape(24, 200), False),
    "split": (lambda: STORED.reshape(24, 8, 5, 5), False),
    "moved": (lambda: np.ascontiguousarray(STORED.transpose(1, 0, 2)).reshape(40, 120)[:, :60], False),
}


@pytest.mark.parametrize("convert", ["tensor", "from_numpy", "as_tensor"])
@pytest.mark.parametrize("make, wrong", ARRAYS.values(), ids=ARRAYS)
def test_numpy_arrays_reshaped_for_transposed(tmp_path, convert, make, wrong):
    with watched(tmp_path) as watch:
        getattr(torch, convert)(make())
        assert [r.samples_mixed for r in watch.observer.spy.reshapes] == [True] * wrong
