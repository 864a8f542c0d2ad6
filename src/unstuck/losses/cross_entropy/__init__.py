"""Cross-entropy: a drop-in for torch's, that hands over telemetry, refuses silent bugs, and touches memory as little as can be.

    from unstuck.losses import cross_entropy
    loss = cross_entropy(logits, labels, telemetry=seen.append)

One function, and behind it: `eager` (plain torch operations, any device), `triton_kernel` (CUDA, two kernels), `plain`
(differentiable torch operations, for derivatives of derivatives), `reference` (numpy float64, the definition the tests compare
with).
"""

from __future__ import annotations

import functools
import importlib.util
import math
from typing import Any

import torch
from torch import Tensor, nn

from unstuck.losses import guards, telemetry
from unstuck.losses.cross_entropy import eager, plain
from unstuck.losses.cross_entropy.eager import Options
from unstuck.losses.protocol import overridable
from unstuck.losses.telemetry import Receiver, Telemetry

HALF = (torch.float16, torch.bfloat16)
# Elements below which a call is bound by the number of operations, not by memory: torch's own two kernels are the fewest. Taken
# where they answer as ours do: index targets, single or double precision, no telemetry.
SMALL = 1 << 14
REDUCTIONS = ("mean", "sum", "none")


class FusedCrossEntropy(torch.autograd.Function):
    """Loss and gradient in one pass of forward; backward hands the gradient over.

    Saved: logits, target, weight (or None), in this order, as given by the caller. The gradient buffer is held beside them, given
    away by the first backward, and computed anew by a second one; so it is never scaled twice and never shared with anybody's
    `.grad`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        weight: Tensor | None,
        o: Options,
        overwrite: bool,
        listen: Any,
        dtype: torch.dtype,
    ) -> Tensor:
        # half precision by rows: backward computes the gradient with the rows' upstream factors in it, and rounds once
        wait = logits.dtype in HALF and o.reduction == "none" and not overwrite
        result = compute(logits, target, weight, o, gradient=not wait, overwrite=overwrite, listen=listen)
        ctx.save_for_backward(logits, target, weight)
        ctx.o, ctx.later, ctx.gradient = o, result.later, result.gradient
        ctx.overwritten = result.gradient is not None and result.gradient.data_ptr() == logits.data_ptr() and logits.numel() > 0
        return _shaped(result.loss, logits, o).to(dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        o: Options = ctx.o
        if torch.is_grad_enabled():  # create_graph: the gradient itself will be differentiated
            logits, target, weight = _saved(ctx)
            again = plain.loss(logits, target, weight, o)
            (differentiable,) = torch.autograd.grad(again, logits, upstream.to(again.dtype), create_graph=True)
            return differentiable, None, None, None, None, None, None
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is not None and (ctx.overwritten or _exact(gradient, upstream, ctx.later, o)):
            return scaled(gradient, upstream, ctx.later, o), None, None, None, None, None, None
        logits, target, weight = _saved(ctx)
        known = float(upstream) if o.reduction != "none" and logits.device.type == "cpu" else upstream
        result = compute(logits, target, weight, o, gradient=True, overwrite=False, listen=None, upstream=known)
        return result.gradient, None, None, None, None, None, None


def _exact(gradient: Tensor, upstream: Tensor, later: float | Tensor, o: Options) -> bool:
    """Whether the product with the upstream gradient may be taken after rounding. In half precision that must be a power of two
    (1, a loss scale, one of 2^k accumulated batches); any other number is worth a second pass, or the product would be rounded
    twice. On an accelerator looking at the number would make the host wait: there it is taken as it is."""
    if gradient.dtype not in HALF or gradient.device.type != "cpu":
        return True
    return o.reduction != "none" and math.frexp(float(upstream) * float(later))[0] == 0.5


def _saved(ctx: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    if ctx.overwritten:
        raise RuntimeError(
            "the logits were overwritten by their gradient (overwrite_logits=True), so there is no second backward and no "
            "derivative of the gradient: leave overwrite_logits out where you need one"
        )
    logits, target, weight = ctx.saved_tensors
    return logits, target, weight


def scaled(gradient: Tensor, upstream: Tensor, later: float | Tensor, o: Options) -> Tensor:
    """The stored gradient times the upstream one, in place. gradient: shape of the logits; upstream: () or (N, d1, ...).

    On the CPU an upstream gradient of 1 costs nothing; elsewhere finding that out would make the host wait, so it is multiplied."""
    if o.reduction == "none" and upstream.dim():
        return gradient.mul_(upstream.unsqueeze(0 if gradient.dim() == 1 else 1))
    if gradient.device.type == "cpu":
        factor = float(upstream) * float(later)
        return gradient if factor == 1.0 else gradient.mul_(factor)
    factor = upstream.to(torch.float32) * later
    if gradient.dtype in HALF:
        # one dimension makes the product be taken in float32, and only its result rounded
        return torch.mul(gradient, factor.reshape((1,) * gradient.dim()), out=gradient)
    return gradient.mul_(factor)


def _shaped(loss: Tensor, logits: Tensor, o: Options) -> Tensor:
    if o.reduction != "none":
        return loss
    return loss.reshape(()) if logits.dim() == 1 else loss.reshape(logits.shape[:1] + logits.shape[2:])


def compute(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    o: Options,
    *,
    gradient: bool,
    overwrite: bool,
    listen: Any,
    upstream: float | Tensor | None = None,
) -> eager.Result:
    """The kernel for this device, then the telemetry to whoever listens. `listen`: (receiver or None,), or None for nobody."""
    wanted = listen is not None
    result = None
    if logits.device.type == "cuda" and _has_triton():
        from unstuck.losses.cross_entropy import triton_kernel

        if triton_kernel.usable(logits, target, weight, o):
            result = triton_kernel.run(
                logits, target, weight, o, gradient=gradient, overwrite=overwrite, telemetry=wanted, upstream=upstream
            )
    if result is None:
        result = eager.run(logits, target, weight, o, gradient=gradient, overwrite=overwrite, telemetry=wanted, upstream=upstream)
    if wanted and result.telemetry is not None:
        telemetry.report(result.telemetry, listen[0])
    return result


@functools.cache
def _has_triton() -> bool:
    """CUDA builds of torch bring it on Linux; elsewhere the eager path does the work."""
    return importlib.util.find_spec("triton") is not None


def traced(*tensors: Tensor | None) -> bool:
    """Whether somebody differentiates, batches or records the operations themselves: torch.func, forward mode, torch.compile,
    tensor subclasses, meta tensors."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return True
    given = [t for t in tensors if t is not None]
    if any(type(t) not in (Tensor, nn.Parameter) or t.device.type == "meta" for t in given):
        return True
    if torch.autograd.forward_ad._current_level >= 0:
        return any(torch.autograd.forward_ad.unpack_dual(t).tangent is not None for t in given)
    return False


def result_dtype(logits: Tensor, target: Tensor, weight: Tensor | None) -> torch.dtype:
    """As torch's: of the logits; probability targets and their weight take part in promotion; float32 under autocast."""
    dtype = logits.dtype
    if dtype != torch.float64 and torch.is_autocast_enabled(logits.device.type):
        return torch.float32
    if target.is_floating_point():
        dtype = torch.promote_types(dtype, target.dtype)
        if weight is not None:
            dtype = torch.promote_types(dtype, weight.dtype)
    return dtype


def check(logits: Tensor, target: Tensor, weight: Tensor | None, o: Options) -> None:
    """Raises what torch raises (ValueError, TypeError where torch has a bare RuntimeError), with what to do about it."""
    if o.reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {o.reduction!r}")
    if not 0.0 <= o.label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing must lie in [0, 1], got {o.label_smoothing!r}")
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating point, got {logits.dtype}: pass the raw scores of the model")
    if logits.dim() == 0:
        raise ValueError("logits need a class dimension: shape (C,), (N, C) or (N, C, d1, ...)")
    classes = logits.shape[0 if logits.dim() == 1 else 1]
    rows = logits.shape[:0] if logits.dim() == 1 else logits.shape[:1] + logits.shape[2:]
    if target.is_floating_point():
        if target.shape != logits.shape:
            raise ValueError(
                f"probability targets must have the logits' shape {tuple(logits.shape)}, got {tuple(target.shape)}; "
                "class indices must be int64"
            )
        if o.ignore_index >= 0:
            raise ValueError(f"ignore_index={o.ignore_index} has no meaning for probability targets: leave it at -100")
        if o.loss != "cross-entropy":
            raise ValueError(f"the {o.loss} loss is defined for class indices, not for probability targets")
    elif target.dtype not in (torch.int64, torch.uint8):
        raise TypeError(f"class indices must be int64 (or uint8), got {target.dtype}: call target.long()")
    elif target.shape != rows:
        if target.dim() == len(rows) + 1 and target.shape[-1:] == (1,) and target.shape[:-1] == rows:
            raise ValueError(f"target has shape {tuple(target.shape)}, expected {tuple(rows)}: call target.squeeze(-1)")
        raise ValueError(
            f"target has shape {tuple(target.shape)}, but logits of shape {tuple(logits.shape)} (classes in dimension "
            f"{0 if logits.dim() == 1 else 1}) need {tuple(rows)}"
        )
    if weight is not None and weight.shape != (classes,):
        raise ValueError(f"weight must have one entry for each of the {classes} classes, got shape {tuple(weight.shape)}")


def apply(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    o: Options,
    *,
    overwrite_logits: bool = False,
    receiver: Receiver | None = None,
) -> Tensor:
    """The loss call behind every name of this family."""
    check(logits, target, weight, o)
    dtype = result_dtype(logits, target, weight)
    recorded = torch.is_grad_enabled()
    if traced(logits, target, weight) or (recorded and (target.requires_grad or (weight is not None and weight.requires_grad))):
        return plain.loss(logits.to(dtype) if dtype == torch.float32 else logits, target, weight, o)
    if not logits.shape[0 if logits.dim() == 1 else 1]:
        return plain.loss(logits, target, weight, o)
    guards.probabilities(logits)
    listen = (receiver,) if receiver is not None or telemetry.listeners else None
    plainly = o.loss == "cross-entropy" and not o.z_loss and not overwrite_logits and not target.is_floating_point()
    exact = dtype == logits.dtype and dtype not in HALF
    if receiver is None and plainly and exact and logits.numel() <= SMALL and logits.device.type == "cpu":
        if listen is not None:  # whether somebody listens must not change what is computed, to the last bit
            compute(logits.detach(), target, weight, o, gradient=False, overwrite=False, listen=listen)
        ignoring = guards.out_of_range(target, logits.shape[0 if logits.dim() == 1 else 1], o.ignore_index)
        return plain.loss(logits, target, weight, o, ignoring)
    if not (recorded and logits.requires_grad):
        result = compute(logits, target, weight, o, gradient=False, overwrite=False, listen=listen)
        return _shaped(result.loss, logits, o).to(dtype)
    if overwrite_logits and logits.is_leaf:
        raise ValueError(
            "overwrite_logits=True on a leaf: its gradient would be its own memory. It is for logits that a layer has computed"
        )
    loss: Tensor = FusedCrossEntropy.apply(logits, target, weight, o, overwrite_logits, listen, dtype)
    return loss


def _reduction(reduction: str, size_average: bool | None, reduce: bool | None) -> str:
    """torch's two retired flags still decide where they are given."""
    if size_average is None and reduce is None:
        return reduction
    if reduce is False:
        return "none"
    return "sum" if size_average is False else "mean"


@overridable
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    z_loss: float = 0.0,
    overwrite_logits: bool = False,
    telemetry: Receiver | None = None,
) -> Tensor:
    """Cross-entropy of raw scores, in nats; arguments, shapes, dtypes and values of torch.nn.functional.cross_entropy.

    input: (C,), (N, C) or (N, C, d1, ...), float16, bfloat16, float32 or float64. target: class indices, int64 or uint8, (), (N,)
    or (N, d1, ...); or probabilities, floating, of the input's shape (they need not sum to 1). weight: (C,). Half precisions are
    computed in float32 and rounded once. Unlike torch: an ignored row has gradient 0 although its logits are NaN, a class with
    logit -inf and target probability 0 costs nothing (the first derivative included, not where derivatives of derivatives or
    torch.func are asked for), and the weight may have any floating dtype.

    z_loss: adds z_loss * lse^2 to each row (times the row's class weight), which keeps ln sum exp z near 0.
    overwrite_logits: the gradient may be written over the logits, which saves their size in memory. Whoever reads the logits
    after the call reads gradients; autograd raises if an earlier operation needs them. No second backward.
    telemetry: called with a `Telemetry` of this call before it returns.

    IndexError names the first label out of range; ValueError and TypeError say what is wrong with a shape or dtype. A UserWarning
    at the caller's line says so if the scores are probabilities (see `unstuck.losses.guards`).
    """
    o = Options(ignore_index, _reduction(reduction, size_average, reduce), label_smoothing, z_loss)
    return apply(input, target, weight, o, overwrite_logits=overwrite_logits, receiver=telemetry)


class CrossEntropyLoss(nn.Module):
    """`cross_entropy` with its options bound, as torch.nn.CrossEntropyLoss. With `keep_telemetry` the last call's `Telemetry` is at
    `.telemetry`; None before the first call."""

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        *,
        z_loss: float = 0.0,
        overwrite_logits: bool = False,
        keep_telemetry: bool = False,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.reduction = _reduction(reduction, size_average, reduce)
        self.label_smoothing = label_smoothing
        self.z_loss = z_loss
        self.overwrite_logits = overwrite_logits
        self.keep_telemetry = keep_telemetry
        self.telemetry: Telemetry | None = None

    def _keep(self, seen: Telemetry) -> None:
        self.telemetry = seen

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        o = Options(self.ignore_index, self.reduction, self.label_smoothing, self.z_loss)
        receiver = self._keep if self.keep_telemetry else None
        return apply(input, target, self.weight, o, overwrite_logits=self.overwrite_logits, receiver=receiver)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}, ignore_index={self.ignore_index}, label_smoothing={self.label_smoothing}"
