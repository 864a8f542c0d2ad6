"""Interventions on what fit is given: the scale of inputs, labels and their pairing, sample weights, the order of samples.

Whatever the data are (arrays, a tf.data pipeline, a generator, a PyDataset, a torch DataLoader), Keras reads them through a
data adapter; the batches are changed as they leave it. They are not looked at beforehand: reading a pipeline ahead would move its
shuffling, and the arms would see other batches. On TensorFlow the change is one more stage of the input pipeline.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from unstuck.experiments.keras_patches import Patches
from unstuck.observe import sites

FIRST_BATCHES = 20  # of these the statistics are taken; until then each batch updates them first
MANY_COLUMNS = 16

Arrays = list[np.ndarray]


class Batches:
    """Passes every batch through `change(x, y, w, training, kept)` -> (x, y, w), lists of arrays and the sample weights or None.

    `everywhere`: also those of evaluate and predict, with training False. `kept` is a dictionary that lives as long as one pass
    over the data. `dtype(i, dtype, shape)` is the type that input i comes back with; `cuts`: rows may be missing; `weighs(shape)`:
    there are sample weights afterwards, of this shape for targets of that one.
    """

    def __init__(
        self, patches: Patches, change: Callable[[Arrays, Arrays, Any, bool, dict[str, Any]], tuple[Arrays, Arrays, Any]], *,
        everywhere: bool = False, cuts: bool = False, weighs: Callable[[Any], list[int | None]] | None = None,
        dtype: Callable[[int, np.dtype, Any], np.dtype] = lambda i, dtype, shape: dtype,
    ) -> None:  # fmt: skip
        self.patches, self.keras, self.change = patches, patches.keras, change
        self.everywhere, self.cuts, self.weighs, self.dtype = everywhere, cuts, weighs, dtype
        self.due = False  # the next adapter is that of the training data
        self.model: Any = None
        self.kept: dict[str, Any] = {}  # of train_on_batch, whose loop is the script's
        module = sys.modules["keras.src.trainers.data_adapters"]
        patches.at_fit(self._begin)
        patches.replace(module, "get_data_adapter", self._adapting)
        if everywhere:
            for name in ("test_on_batch", "predict_on_batch"):
                patches.replace(patches.owner(self.keras.Model, name), name, self._elsewhere)

    def _begin(self, model: Any, name: str, arguments: dict[str, Any]) -> None:
        self.model, self.due = model, name == "fit"
        if name == "train_on_batch":
            element = (arguments["x"], arguments["y"], arguments["sample_weight"])
            if arguments.get("class_weight") is not None and self.weighs is not None:
                raise self.patches.applied.impossible("train_on_batch is given class weights already")
            arguments["x"], arguments["y"], arguments["sample_weight"] = self._element(element, True, self.kept)

    def _elsewhere(self, original: Any) -> Any:
        def call(model: Any, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
            x, y, _ = self._element((x, y, None), False, {})
            return original(model, x, *((y,) if y is not None else ()), *args, **kwargs)

        return call

    # ------------------------------------------------------------------ the adapter

    def _adapting(self, original: Any) -> Any:
        def get_data_adapter(*args: Any, **kwargs: Any) -> Any:
            adapter = original(*args, **kwargs)
            training, self.due = self.due, False
            if training or self.everywhere:
                self._through(adapter, training)
            return adapter

        return get_data_adapter

    def _through(self, adapter: Any, training: bool) -> None:
        dataset, torch_loader = adapter.get_tf_dataset, adapter.get_torch_dataloader
        adapter.get_tf_dataset = lambda: self._pipeline(dataset(), training)
        adapter.get_torch_dataloader = lambda: _Loader(self, torch_loader(), training)
        for name in ("get_numpy_iterator", "get_jax_iterator"):
            iterate = getattr(adapter, name)
            setattr(adapter, name, lambda iterate=iterate: self._iterator(iterate(), training))

    def _iterator(self, iterator: Any, training: bool) -> Iterator[Any]:
        kept: dict[str, Any] = {}
        for element in iterator:
            x, y, w = self._element(self.keras.utils.unpack_x_y_sample_weight(element), training, kept)
            yield self.keras.utils.pack_x_y_sample_weight(x, y, w)

    def _element(self, element: Any, training: bool, kept: dict[str, Any]) -> tuple[Any, Any, Any]:
        tree = self.keras.tree
        x, y, w = element
        flat = [tree.flatten(part) if part is not None else [] for part in (x, y)]
        places = [[i for i, t in enumerate(part) if _dense(t)] for part in flat]
        arrays = [[_array(part[i]) for i in where] for part, where in zip(flat, places)]
        out_x, out_y, out_w = self.change(*arrays, _array(w) if w is not None else None, training, kept)
        for part, where, changed in zip(flat, places, (out_x, out_y)):
            for i, array in zip(where, changed):
                part[i] = _like(array, part[i])
        x = tree.pack_sequence_as(x, flat[0]) if flat[0] else x
        y = tree.pack_sequence_as(y, flat[1]) if flat[1] else y
        return x, y, None if out_w is None else _like(out_w, next(iter(flat[0]), None))

    def _pipeline(self, dataset: Any, training: bool) -> Any:
        tf = sys.modules["tensorflow"]
        spec, kept = dataset.element_spec, dict[str, Any]()

        def stage(*element: Any) -> Any:
            x, y, w = self.keras.utils.unpack_x_y_sample_weight(element if isinstance(spec, tuple) else element[0])
            flat = [tf.nest.flatten(part) if part is not None else [] for part in (x, y)]
            places = [[i for i, t in enumerate(part) if _numbers(tf, t)] for part in flat]
            numbers = [part[i] for part, where in zip(flat, places) for i in where]
            inputs = len(places[0])
            kinds = [tf.dtypes.as_dtype(self.dtype(i, t.dtype.as_numpy_dtype, t.shape)) for i, t in zip(places[0], numbers)]
            kinds += [t.dtype for t in numbers[inputs:]]
            shapes = [tf.TensorShape([None, *t.shape[1:]] if self.cuts and t.shape.rank else t.shape) for t in numbers]
            if w is not None or self.weighs is not None:
                kinds.append(tf.float32)
                shapes.append(w.shape if w is not None else tf.TensorShape(self.weighs(numbers[inputs].shape)))

            def run(*arrays: np.ndarray) -> list[np.ndarray]:
                given = list(arrays[: len(numbers)])
                a, b, weight = self.change(given[:inputs], given[inputs:], arrays[-1] if w is not None else None, training, kept)
                out = [*a, *b, *([weight] if weight is not None else [])]
                return [np.ascontiguousarray(t, dtype=kind.as_numpy_dtype) for t, kind in zip(out, kinds)]

            out = tf.numpy_function(run, [*numbers, *([w] if w is not None else [])], kinds)
            for t, shape in zip(out, shapes):
                t.set_shape(shape)
            changed = iter(out)
            for part, where in zip(flat, places):
                for i in where:
                    part[i] = next(changed)
            x = tf.nest.pack_sequence_as(x, flat[0])
            y = tf.nest.pack_sequence_as(y, flat[1]) if y is not None else None
            return self.keras.utils.pack_x_y_sample_weight(x, y, next(changed, None))

        return dataset.map(tf.autograph.experimental.do_not_convert(stage))


class _Loader:
    """In the place of a torch DataLoader."""

    def __init__(self, batches: Batches, loader: Any, training: bool) -> None:
        self._batches, self._loader, self._training = batches, loader, training

    def __iter__(self) -> Iterator[Any]:
        # Now, and not with the first batch: a DataLoader draws a random number when it is asked for an iterator.
        return self._batches._iterator(iter(self._loader), self._training)

    def __len__(self) -> int:
        return len(self._loader)


def _dense(t: Any) -> bool:
    """An array of numbers with rows, of any backend."""
    if not hasattr(t, "shape") or not hasattr(t, "dtype") or type(t).__name__ in {"RaggedTensor", "SparseTensor", "BCOO"}:
        return False
    kind = str(getattr(t.dtype, "name", t.dtype))
    return len(t.shape) > 0 and any(word in kind for word in ("float", "int", "bool"))


def _numbers(tf: Any, t: Any) -> bool:
    return tf.is_tensor(t) and isinstance(t, tf.Tensor) and (t.dtype.is_floating or t.dtype.is_integer or t.dtype.is_bool)


def _array(t: Any) -> np.ndarray:
    return t.detach().cpu().numpy() if hasattr(t, "detach") else np.asarray(t)


def _like(array: np.ndarray, old: Any) -> Any:
    """As what it stands for: torch's tensors stay torch's, everything else may be an array."""
    if hasattr(old, "detach"):
        return sys.modules["torch"].as_tensor(np.ascontiguousarray(array)).to(old.device)
    return array


# -------------------------------------------------------------------------------------------------- the scale of inputs


class Statistics:
    """Running mean and standard deviation of one input, per column or per channel or of the whole, in double precision (Chan's
    update). They depend on the data only: arms with the same seed get the same ones."""

    def __init__(self, first: np.ndarray, convolutional: bool, channels_last: bool) -> None:
        self.axes = _axes(first, convolutional, channels_last)
        self.batches = 0
        self.n = 0.0
        self.mean: Any = 0.0
        self.squares: Any = 0.0

    def update(self, x: np.ndarray) -> None:
        x = x.astype(np.float64)
        mean = x.mean(self.axes, keepdims=True)
        n = x.size / max(1, mean.size)
        squares = ((x - mean) ** 2).sum(self.axes, keepdims=True)
        total = self.n + n
        delta = mean - self.mean
        self.squares = self.squares + squares + delta**2 * (self.n * n / total)
        self.mean = self.mean + delta * (n / total)
        self.n = total
        self.batches += 1

    def standardised(self, x: np.ndarray) -> np.ndarray:
        deviation = np.sqrt(self.squares / self.n)
        # A column that has not changed yet (up to rounding) keeps its scale.
        still = deviation <= 1e-6 * np.abs(self.mean) + 1e-12
        return (x.astype(np.float64) - self.mean) / np.where(still, 1.0, deviation)


def _axes(x: np.ndarray, convolutional: bool, channels_last: bool) -> tuple[int, ...]:
    """The axes over which the statistics run. Images and signals of a convolution: one number per channel. [B, T, F] and tables:
    one per column; but many columns of one scale are pixels or samples of one quantity, some of which hardly ever change: one
    number for all."""
    if x.ndim >= 4 or (x.ndim == 3 and convolutional):
        return tuple(range(x.ndim - 1)) if channels_last else (0, *range(2, x.ndim))
    if x.ndim < 2 or _one_scale(x.astype(np.float64).reshape(-1, x.shape[-1])):
        return tuple(range(x.ndim))
    return tuple(range(x.ndim - 1))


def _one_scale(table: np.ndarray) -> bool:
    if table.shape[1] < MANY_COLUMNS or len(table) < 2:
        return False
    low, high = table.min(0), table.max(0)
    spread = high - low
    moving = spread[spread > 0]
    if len(moving) < MANY_COLUMNS // 2:
        return False
    # Each column's range against the whole's: a table of several units has columns a thousandth as wide.
    return float(np.median(moving)) > 0.3 * float(high.max() - low.min())


def standardise_inputs(patches: Patches) -> None:
    """Of whole numbers those that the model takes as real ones: pictures as they come from a file."""
    known: dict[tuple[int, int], Statistics] = {}

    def real(i: int, dtype: np.dtype, shape: Any) -> np.dtype:
        kind = np.dtype(dtype)
        if kind.kind not in "iu":
            return kind
        inputs = getattr(batches.model, "inputs", None)
        if inputs is not None and i < len(inputs):
            return np.dtype(np.float32) if "float" in str(inputs[i].dtype) else kind
        return np.dtype(np.float32) if kind == np.uint8 and len(shape) > 2 else kind

    def change(x: Arrays, y: Arrays, w: Any, training: bool, kept: dict[str, Any]) -> tuple[Arrays, Arrays, Any]:
        names = {type(layer).__name__ for layer in batches.model._flatten_layers()} if batches.model is not None else set()
        given = [a.astype(real(i, a.dtype, a.shape)) for i, a in enumerate(x)]
        if "Embedding" in names and any(a.dtype.kind == "f" and bool((a == np.round(a)).all()) for a in given):
            return x, y, w  # ids that travel as floats
        out = []
        for i, a in enumerate(given):
            if not _scalable(a):
                out.append(a)
                continue
            statistics = known.get((i, a.ndim))
            if statistics is None:
                last = patches.keras.config.image_data_format() == "channels_last"
                convolutional = any("Conv1D" in name for name in names)
                statistics = known[i, a.ndim] = Statistics(a, convolutional, last or a.ndim == 3)
            if not statistics.batches or (training and statistics.batches < FIRST_BATCHES):
                statistics.update(a)
            patches.applied.count += training
            out.append(statistics.standardised(a).astype(a.dtype))
        return out, y, w

    batches = Batches(patches, change, everywhere=True, dtype=real)
    patches.expect("fit and train_on_batch were given no real inputs")


def _scalable(x: np.ndarray) -> bool:
    """Real inputs: no ids, masks, one-hot vectors."""
    if x.dtype.kind != "f" or x.size < 2:
        return False
    return bool(np.isfinite(x).all()) and not bool(((x == 0) | (x == 1)).all())


# -------------------------------------------------------------------------------------------------- labels and weights


def renumber_labels(patches: Patches) -> None:
    offset = int(patches.number("offset"))

    def change(x: Arrays, y: Arrays, w: Any, training: bool, kept: dict[str, Any]) -> tuple[Arrays, Arrays, Any]:
        patches.applied.count += training and bool(y)
        return x, [(a.astype(np.int64) + offset).astype(a.dtype) for a in y], w

    Batches(patches, change, everywhere=True)
    patches.expect("fit and train_on_batch were given no labels")


def class_weights(patches: Patches) -> None:
    """As sample weights, one for each label: Keras' own class_weight, for any kind of data. Two weights are those of the classes 0
    and 1, one is that of class 1. Sample weights that are there already are multiplied."""
    given = patches.arguments["weights"]
    weights = np.array([float(v) for v in (given if isinstance(given, (list, tuple)) else [given])], dtype=np.float32)
    if weights.size == 1:
        weights = np.array([1.0, weights[0]], dtype=np.float32)

    def change(x: Arrays, y: Arrays, w: Any, training: bool, kept: dict[str, Any]) -> tuple[Arrays, Arrays, Any]:
        rows = len(x[0]) if x else 0
        if len(y) != 1:
            patches.applied.raised = "the model has several outputs, or none"
            return x, y, w if w is not None else np.ones(rows, np.float32)
        labels = y[0]
        if labels.ndim > 1 and labels.shape[-1] == weights.size > 1:
            each = labels.astype(np.float32) @ weights
        else:
            flat = labels[..., 0] if labels.ndim > 1 and labels.shape[-1] == 1 else labels
            index = np.round(flat).astype(np.int64)
            if index.size and (index.min() < 0 or index.max() >= weights.size):
                patches.applied.raised = f"{weights.size} weights for labels up to {index.max()}"
            each = weights[np.clip(index, 0, weights.size - 1)]
        patches.applied.count += 1
        return x, y, (each if w is None else np.asarray(w, np.float32).reshape(each.shape) * each).astype(np.float32)

    def shape(targets: Any) -> list[int | None]:
        rows = list(targets)
        return rows[:-1] if len(rows) > 1 and rows[-1] in {1, weights.size} else rows

    Batches(patches, change, weighs=shape)
    patches.expect("fit and train_on_batch were given no labels")


def shift_labels(patches: Patches) -> None:
    """y[i + offset] belongs to x[i]. Arrays that fit is given are shifted as wholes. Otherwise rows of a batch: way "batch" turns
    its labels round; else the rows at its end that are left without a partner are left out, and labels of earlier batches are
    kept for later inputs; later labels are not to be had."""
    offset = int(patches.number("offset"))
    way = str(patches.arguments.get("way", "open"))
    if offset == 0:
        raise patches.applied.impossible("the offset is 0")
    tree = patches.keras.tree
    whole = False  # done on the arrays themselves

    def arrays(model: Any, name: str, arguments: dict[str, Any]) -> None:
        nonlocal whole
        whole = False
        if name != "fit" or way == "batch" or not isinstance(arguments["y"], np.ndarray):
            return
        if not all(isinstance(t, np.ndarray) for t in tree.flatten(arguments["x"])):
            return
        whole = True
        y = arguments["y"]
        if way == "cyclic":
            arguments["y"] = np.roll(y, -offset, 0)
        else:
            ahead, behind = slice(abs(offset), None), slice(None, -abs(offset))
            rows, labels = (behind, ahead) if offset > 0 else (ahead, behind)
            arguments["x"] = tree.map_structure(lambda t: t[rows], arguments["x"])
            arguments["y"] = y[labels]
            if isinstance(arguments["sample_weight"], np.ndarray):
                arguments["sample_weight"] = arguments["sample_weight"][rows]
        patches.applied.count += 1

    def change(x: Arrays, y: Arrays, w: Any, training: bool, kept: dict[str, Any]) -> tuple[Arrays, Arrays, Any]:
        if whole or not y or any(len(a) != len(y[0]) for a in (*x, *y)):
            return x, y, w
        rows = len(y[0])
        if way == "batch":
            patches.applied.count += 1
            return x, [np.roll(a, -offset, 0) for a in y], w
        if offset > 0:
            if offset >= rows:
                patches.applied.raised = f"a batch holds {rows} labels, the right ones come {offset} rows later"
                return x, y, w
            patches.applied.count += 1
            return [a[:-offset] for a in x], [a[offset:] for a in y], None if w is None else w[:-offset]
        streams = [np.concatenate([*kept.get(str(i), []), a]) for i, a in enumerate(y)]
        for i, stream in enumerate(streams):
            kept[str(i)] = [stream[offset:]]
        there = min(rows, len(streams[0]) + offset)  # rows at the end of this batch whose labels have been seen
        if there <= 0:
            return [a[:1] for a in x], [a[:1] for a in y], None if w is None else 0 * w[:1]
        patches.applied.count += 1
        end = len(streams[0]) + offset
        return [a[rows - there :] for a in x], [s[end - there : end] for s in streams], None if w is None else w[rows - there :]

    patches.at_fit(arrays)
    Batches(patches, change, cuts=True)
    patches.expect("fit and train_on_batch were given no labels")


# -------------------------------------------------------------------------------------------------- the order of samples


def shuffle(patches: Patches) -> None:
    """fit(shuffle=True) at file:line, else in each fit. Nothing is drawn that shuffle=True would not draw."""
    place = patches.place()

    def change(model: Any, name: str, arguments: dict[str, Any]) -> None:
        if name != "fit" or arguments["shuffle"] or (place is not None and not place.is_at(sites.caller(2))):
            return
        arguments["shuffle"] = True
        patches.applied.count += arguments["y"] is not None

    patches.at_fit(change)
    patches.expect("no arrays were given to fit with shuffle=False (a pipeline's own order cannot be changed from outside)")


KINDS: dict[str, Callable[[Patches], None]] = {
    "standardise-inputs": standardise_inputs,
    "renumber-labels": renumber_labels,
    "class-weights": class_weights,
    "shift-labels": shift_labels,
    "shuffle": shuffle,
}
