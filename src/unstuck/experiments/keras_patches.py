"""How Keras is patched for the duration of an experiment, on every backend.

`Patches` replaces attributes of Keras' own classes and puts them back. On top of that stand the boundaries where interventions
work, all of them in Python and in front of the compiled step, so that TensorFlow and JAX trace what is changed:

    at_layers   a layer, before it is called (and its weights are made) for the first time
    at_loss     a loss, when its place in the step is made and the shapes of targets and outputs are known
    at_rate     the learning rate that an optimizer steps with, while it steps: what callbacks read and set is the script's own
    at_fit      the arguments of fit and train_on_batch
    at_start    a model, when its step is made and its weights exist

Lines of the user's code are those that the observer notes (`keras_callback`), which runs inside of every experiment. Keras is
handed over by whoever has it: this module imports none of it.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from unstuck.experiments.change import PATIENCE, Applied, Place, place_in
from unstuck.observe import keras_callback, sites


class Given(NamedTuple):
    """A loss in its place: the resolved keras.losses.Loss, and the targets and outputs that it will get (perhaps symbolic)."""

    loss: Any
    y: Any
    outputs: Any

    @property
    def target_shape(self) -> list[int | None]:
        return [None if n is None else int(n) for n in self.y.shape]

    @property
    def output_shape(self) -> list[int | None]:
        return [None if n is None else int(n) for n in self.outputs.shape]


Change = Callable[[Given], Any]  # the loss that takes its place, None: it stays


class Patches:
    """What was replaced, how to undo it, and what the boundaries of a training share."""

    def __init__(self, applied: Applied, arguments: dict[str, Any], keras: Any) -> None:
        self.applied, self.arguments, self.keras = applied, arguments, keras
        self.backend: str = keras.backend.backend()
        self.active = True
        self.local = threading.local()
        self.undo: list[Callable[[], None]] = []
        self.trainer = self.owner(keras.Model, "make_train_function")
        self.optimizer = self.owner(keras.optimizers.Optimizer, "_backend_apply_gradients", last=True)
        self.layers: list[Callable[[Any], None]] = []
        self.seen: dict[int, weakref.ref[Any]] = {}
        self.losses: list[tuple[Change, Place | None]] = []
        self.compiled: dict[int, tuple[weakref.ref[Any], Any]] = {}  # compiled losses, and the line that compiled them
        self.rewritten: weakref.WeakSet[Any] = weakref.WeakSet()  # compiled losses that were changed
        self.user_losses: dict[int, tuple[Any, Any]] = {}  # losses that the script calls itself, and what they became
        self.rates: list[Callable[[Any, Any], Any]] = []
        self.fits: list[Callable[[Any, str, dict[str, Any]], None]] = []
        self.starts: list[Callable[[Any], None]] = []
        self.steps = 0
        self.watching = False

    def number(self, name: str, default: float | None = None) -> float:
        """An argument as a number. Raises KeyError where it is missing and has no default."""
        value = self.arguments[name] if default is None else self.arguments.get(name, default)
        return float(value)

    def place(self, prefix: str = "") -> Place | None:
        return place_in(self.arguments, prefix)

    # ------------------------------------------------------------------ replacing and restoring

    @staticmethod
    def owner(cls: type, name: str, last: bool = False) -> Any:
        """The class in the ancestry that defines an attribute: the nearest, or the last. Raises AttributeError."""
        found = [c for c in cls.__mro__ if name in c.__dict__]
        if not found:
            raise AttributeError(f"this version of Keras has no {cls.__name__}.{name}")
        return found[-1 if last else 0]

    def replace(self, owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """owner.name becomes make(original). Raises AttributeError where there is no such attribute."""
        original = vars(owner)[name] if name in vars(owner) else getattr(owner, name)
        changed = make(original)

        @functools.wraps(original)
        def replacement(*args: Any, **kwargs: Any) -> Any:
            return (changed if self.active else original)(*args, **kwargs)

        setattr(owner, name, replacement)

        def back() -> None:
            if vars(owner).get(name) is replacement:  # wrapped by somebody else since: then ours stays, and is inert
                setattr(owner, name, original)

        self.undo.append(back)

    def restore(self) -> None:
        self.active = False
        while self.undo:
            self.undo.pop()()

    # ------------------------------------------------------------------ where in the user's code

    @staticmethod
    def site_of(thing: Any) -> Any:
        """The line that constructed a layer, a loss or an optimizer; None where nobody noted it."""
        return next((s for o in keras_callback.CURRENT if (s := o.site_of(thing)) is not None), None)

    def is_made_at(self, thing: Any, place: Place) -> bool:
        site = self.site_of(thing)
        return site is not None and place.names(site.file, site.line)

    # ------------------------------------------------------------------ layers

    def at_layers(self, change: Callable[[Any], None]) -> None:
        """`change(layer)` before a layer, or the model it is in, is called for the first time."""
        first = not self.layers
        self.layers.append(change)
        if not first:
            return

        def make(original: Any) -> Any:
            def __call__(layer: Any, *args: Any, **kwargs: Any) -> Any:
                if not self._known(layer):
                    for part in layer._flatten_layers():
                        if part is layer or not self._known(part):
                            self.seen[id(part)] = weakref.ref(part)
                            for each in self.layers:
                                each(part)
                return original(layer, *args, **kwargs)

            return __call__

        self.replace(self.owner(self.keras.layers.Layer, "__call__"), "__call__", make)

    def _known(self, layer: Any) -> bool:
        ref = self.seen.get(id(layer))
        return ref is not None and ref() is layer

    # ------------------------------------------------------------------ losses

    def at_loss(self, change: Change, what: str = "", anywhere: bool = False) -> None:
        """`change(given)` for each compiled loss, and for those that a script's own step calls; at file:line where the arguments
        name a line (of the call to compile, of the loss' constructor, of its call) and it is not `anywhere`."""
        first = not self.losses
        self.losses.append((change, None if anywhere else self.place()))
        if what:
            self.expect(what)
        if not first:
            return
        base = self.keras.losses.Loss
        compiled = sys.modules["keras.src.trainers.compile_utils"].CompileLoss

        def compiling(original: Any) -> Any:
            def compile(model: Any, *args: Any, **kwargs: Any) -> Any:
                out = original(model, *args, **kwargs)
                loss = getattr(model, "_compile_loss", None)
                if loss is not None:
                    site = next((s for o in keras_callback.CURRENT if (s := o.compiled.get(model)) is not None), None)
                    self.compiled[id(loss)] = weakref.ref(loss), site
                return out

            return compile

        def building(original: Any) -> Any:
            def build(loss: Any, y_true: Any, y_pred: Any) -> None:
                original(loss, y_true, y_pred)
                ref, site = self.compiled.get(id(loss), (lambda: None, None))
                site = site if ref() is loss else None
                for i, entry in enumerate(loss._flat_losses):
                    y, outputs = y_true, y_pred
                    for key in entry.path:
                        y, outputs = y[key], outputs[key]
                    new = self._changed(Given(entry.loss, y, outputs), lambda p: site is not None and p.names(site.file, site.line))
                    if new is not entry.loss:
                        loss._flat_losses[i] = entry._replace(loss=new)
                        self.rewritten.add(loss)
                        self.local.inside = True

            return build

        def running(original: Any) -> Any:
            def call(loss: Any, *args: Any, **kwargs: Any) -> Any:
                self.local.inside = loss in self.rewritten  # what such a loss calls itself is changed with it
                try:
                    return original(loss, *args, **kwargs)
                finally:
                    self.local.inside = False

            return call

        def calling(original: Any) -> Any:
            def __call__(loss: Any, y_true: Any, y_pred: Any, *args: Any, **kwargs: Any) -> Any:
                frame = sys._getframe(2)
                if not self._by_the_script(frame) or not hasattr(y_pred, "shape"):
                    return original(loss, y_true, y_pred, *args, **kwargs)
                known = self.user_losses.get(id(loss))
                if known is None or known[0] is not loss:
                    given = Given(loss, self.keras.ops.convert_to_tensor(y_true), y_pred)
                    known = self.user_losses[id(loss)] = loss, self._changed(given, lambda place: place.is_at(frame))
                return original(known[1], y_true, y_pred, *args, **kwargs)

            return __call__

        def function(original: Any) -> Any:
            signature = inspect.signature(original)

            def loss_function(*args: Any, **kwargs: Any) -> Any:
                frame = sys._getframe(2)
                if not self._by_the_script(frame):
                    return original(*args, **kwargs)
                given = dict(signature.bind(*args, **kwargs).arguments)
                y_true, y_pred = given.pop("y_true"), given.pop("y_pred")
                wrapper = next(c for c in self.keras.losses.MeanSquaredError.__mro__ if c.__name__ == "LossFunctionWrapper")
                loss = wrapper(original, reduction="none", name=original.__name__, **given)
                y = self.keras.ops.convert_to_tensor(y_true)
                changed = self._changed(Given(loss, y, y_pred), lambda place: place.is_at(frame))
                return changed(y, y_pred) if changed is not loss else original(y_true, y_pred, **given)

            return loss_function

        self.replace(self.owner(self.keras.Model, "compile"), "compile", compiling)
        self.replace(compiled, "build", building)
        self.replace(compiled, "call", running)
        self.replace(base, "__call__", calling)
        for name in ("binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy", "mean_squared_error"):
            self.replace(self.keras.losses, name, function)

    def _by_the_script(self, frame: Any) -> bool:
        """Is this a loss that the script calls, and not one inside of a compiled loss that is changed already?"""
        return sites.owner(frame.f_code.co_filename) == "user" and not getattr(self.local, "inside", False)

    def _changed(self, given: Given, is_at: Callable[[Place], bool]) -> Any:
        """What the loss becomes: itself where no change is for it."""
        loss = given.loss
        for change, place in self.losses:
            if place is None or is_at(place) or self.is_made_at(given.loss, place):
                loss = change(given._replace(loss=loss)) or loss
        return loss

    # ------------------------------------------------------------------ steps

    def at_rate(self, change: Callable[[Any, Any], Any]) -> None:
        """`change(optimizer, rate)` is the rate that it steps with; decoupled weight decay takes the same one."""
        first = not self.rates
        self.rates.append(change)
        if not first:
            return

        def applying(original: Any) -> Any:
            def apply(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
                before, self.local.stepping = getattr(self.local, "stepping", False), True
                try:
                    return original(optimizer, *args, **kwargs)
                finally:
                    self.local.stepping = before

            return apply

        def current(original: Any) -> Any:
            def _get_current_learning_rate(optimizer: Any) -> Any:
                rate = original(optimizer)
                if getattr(self.local, "stepping", False):
                    for each in self.rates:
                        rate = each(optimizer, rate)
                    self.applied.count += 1
                return rate

            return _get_current_learning_rate

        self.replace(self.optimizer, "apply", applying)
        self.replace(self.optimizer, "_get_current_learning_rate", current)
        self.expect("no optimizer of Keras takes the steps")

    # ------------------------------------------------------------------ models

    def at_fit(self, change: Callable[[Any, str, dict[str, Any]], None]) -> None:
        """`change(model, name, arguments)` before fit and train_on_batch; it writes to the arguments."""
        first = not self.fits
        self.fits.append(change)
        if not first:
            return

        def make(name: str) -> Any:
            def inner(original: Any) -> Any:
                signature = inspect.signature(original)

                def call(model: Any, *args: Any, **kwargs: Any) -> Any:
                    try:
                        bound = signature.bind(model, *args, **kwargs)
                    except TypeError:
                        return original(model, *args, **kwargs)  # the script's own mistake, with Keras' own message
                    bound.apply_defaults()
                    arguments = dict(bound.arguments)
                    model = arguments.pop("self")
                    for each in self.fits:
                        each(model, name, arguments)
                    return original(model, **arguments)

                return call

            return inner

        for name in ("fit", "train_on_batch"):
            self.replace(self.trainer, name, make(name))

    def at_start(self, change: Callable[[Any], None]) -> None:
        """`change(model)` when the function of its training step is made: the weights exist, and no step has been taken."""
        self.starts.append(change)
        self._watch_steps()

    def expect(self, reason: str) -> None:
        """The reason where nothing has been changed at the end; given up long before."""
        self.applied.missing = reason
        self._watch_steps()

    def _watch_steps(self) -> None:
        if self.watching:
            return
        self.watching = True

        def make(original: Any) -> Any:
            def make_train_function(model: Any, force: bool = False) -> Any:
                making = model.train_function is None or force
                if making:
                    for change in self.starts:
                        change(model)
                out = original(model, force)
                if making and model.train_function is not None:
                    model.train_function = self._counted(model.train_function)
                return out

            return make_train_function

        self.replace(self.trainer, "make_train_function", make)

    def _counted(self, function: Any) -> Any:
        @functools.wraps(function)
        def train_function(*args: Any) -> Any:
            out = function(*args)
            self.steps += 1
            if self.active and self.applied.missing and not self.applied.count and self.steps >= PATIENCE:
                raise self.applied.impossible(self.applied.missing)
            return out

        return train_function


def called(thing: Any) -> str:
    """The name of an activation, whatever form it has: relu, sigmoid, softmax, log_softmax; '' where it has none."""
    name = getattr(thing, "__name__", "") or type(thing).__name__
    words = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).strip("_")
    return words.replace("re_l_u", "relu")
