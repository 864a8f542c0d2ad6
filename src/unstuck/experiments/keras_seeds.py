"""Seeds of a Keras script, moved as `arm.seeds` moves those of Python, numpy and torch.

Keras draws its default seeds from Python's `random`, which is seeded already. What remains are the seeds that are given to it
(an initializer's, a dropout's, `keras.utils.set_random_seed`, which a global generator is made from), those of TensorFlow, whose
input pipelines shuffle with them, and JAX' keys. TensorFlow draws a seed of its own where the script sets none: then it is set
here, because two arms must see the batches in the same order.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

from unstuck.observe import sites
from unstuck.observe.launch import AfterImport

BITS = 31  # what Keras and TensorFlow take on every backend


@contextlib.contextmanager
def seeds(shift: int, seeded: list[str]) -> Iterator[None]:
    """Move every seed by `shift` (0: none); `seeded` is given the names of the generators the script seeds."""
    restore: list[Callable[[], None]] = []

    def moved(seed: Any) -> Any:
        """What is no whole number (a generator, None) stays as it is."""
        if isinstance(seed, bool) or not isinstance(seed, int):
            return seed
        return (seed + shift) % 2**BITS if shift else seed

    def replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        original = owner.__dict__[name]
        setattr(owner, name, functools.wraps(original)(make(original)))
        restore.append(lambda: setattr(owner, name, original))

    def first(original: Any) -> Any:
        """For an __init__ whose first argument may be a seed, by position or by name."""

        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            if "seed" in kwargs:
                kwargs["seed"] = moved(kwargs["seed"])
            elif args:
                args = (moved(args[0]), *args[1:])
            original(self, *args, **kwargs)

        return __init__

    def keras_is_there() -> None:
        keras = sys.modules["keras"]
        replace(keras.random.SeedGenerator, "__init__", first)
        base = next(c for c in keras.initializers.RandomNormal.__mro__ if c.__name__ == "RandomInitializer")
        replace(base, "__init__", first)

    def tensorflow_is_there() -> None:
        tf = sys.modules["tensorflow"]
        tf.random.set_seed(shift % 2**BITS)

        def make(original: Any) -> Any:
            def set_seed(seed: Any) -> None:
                if _by_the_script():
                    seeded.append("tensorflow")
                original(moved(seed))

            return set_seed

        replace(tf.random, "set_seed", make)

    def jax_is_there() -> None:
        jax = sys.modules["jax"]

        def make(original: Any) -> Any:
            def key(seed: Any, *args: Any, **kwargs: Any) -> Any:
                if _by_the_script():
                    seeded.append("jax")
                    seed = moved(seed)
                return original(seed, *args, **kwargs)

            return key

        for name in ("PRNGKey", "key"):
            replace(jax.random, name, make)

    finders = []
    for name, there in (("keras", keras_is_there), ("tensorflow", tensorflow_is_there), ("jax", jax_is_there)):
        if name in sys.modules:
            there()
        else:
            finders.append(AfterImport(name, there))
    sys.meta_path[:0] = finders
    try:
        yield
    finally:
        for finder in finders:
            if finder in sys.meta_path:
                sys.meta_path.remove(finder)
        while restore:
            restore.pop()()


def _by_the_script() -> bool:
    """Is the line that calls the wrapper one of the user's?"""
    return sites.owner(sys._getframe(2).f_code.co_filename) == "user"
