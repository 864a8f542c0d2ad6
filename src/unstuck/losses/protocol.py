"""torch's override protocol for the loss calls of this room."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, overrides

F = TypeVar("F", bound=Callable[..., Any])


def overridable(function: F) -> F:
    """As the functions of torch.nn.functional: a mode or a tensor subclass that watches calls is handed this one call, and not
    the operations that it is made of (which write into scratch memory and mean nothing one by one)."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_compiling():
            tensors = tuple(a for a in (*args, *kwargs.values()) if isinstance(a, Tensor))
            if overrides.has_torch_function(tensors):
                return overrides.handle_torch_function(call, tensors, *args, **kwargs)
        return function(*args, **kwargs)

    return call  # type: ignore[return-value]
