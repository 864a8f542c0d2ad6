"""The last projection and its cross-entropy in one: the logits of a chunk of rows exist, those of a batch never do.

For N rows, D features and C classes plain torch holds N*C logits two or three times. Here a chunk of rows is projected, its loss
and gradient g taken by the kernel of `cross_entropy`, and g multiplied on at once: dh = g W for these rows, dW += g^T h, db +=
sum g. dW and db are summed in float32 (float64 for double inputs) and rounded once: over a hundred chunks bfloat16 would stop
adding up. Three matrix products of 2 N D C operations each, as many as plain torch; nothing is computed twice.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unstuck.losses.cross_entropy import HALF, check, plain, result_dtype, traced
from unstuck.losses.cross_entropy.eager import CHUNK, Options, Pass, Targets, compute_dtype, entropy_stride, gradient_scale
from unstuck.losses.protocol import overridable
from unstuck.losses.telemetry import Receiver, Telemetry, listeners, report

# Logits of a chunk: enough rows for a matrix product at full speed, few enough that two such buffers do not matter.
LOGITS = 1 << 22
ROWS_ON_DEVICE = 2048
LEAST_ROWS = 64


def _plain(
    hidden: Tensor, matrix: Tensor, bias: Tensor | None, target: Tensor, weight: Tensor | None, o: Options, dtype: torch.dtype
) -> Tensor:
    logits = F.linear(hidden, matrix, bias)
    return plain.loss(logits.to(dtype) if dtype == torch.float32 else logits, target, weight, o)


def _product(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """out = a @ b, in the dtype of out. Half inputs on an accelerator: products of half numbers summed in float32."""
    if a.dtype == out.dtype:
        return torch.mm(a, b, out=out)
    return out.copy_(torch.mm(a, b, out_dtype=out.dtype))


def _run(
    hidden: Tensor,
    matrix: Tensor,
    bias: Tensor | None,
    target: Tensor,
    weight: Tensor | None,
    o: Options,
    needs: tuple[bool, bool, bool],
    listen: Any,
    upstream: Tensor | None = None,
) -> tuple[Tensor, list[Tensor | None]]:
    """(loss, gradients of hidden, matrix and bias where needed), all in the compute dtype. hidden (N, D), matrix (C, D), bias
    (C,)."""
    hidden, matrix = hidden.detach(), matrix.detach()
    dtype = compute_dtype(hidden, matrix, weight, target if target.is_floating_point() else None)
    rows, classes, device = hidden.shape[0], matrix.shape[0], hidden.device
    host = device.type == "cpu"
    half = not host and hidden.dtype in HALF and matrix.dtype == hidden.dtype
    if not half:
        matrix = matrix.to(dtype)
    work_dtype = hidden.dtype if half else dtype
    offset = None if bias is None else bias.detach().to(dtype)
    targets = Targets(target, weight, rows, classes, o, dtype, host)
    # backward multiplies what is still in the compute dtype, so nothing of the scale is left over here
    scale, _ = gradient_scale(targets, o, dtype, 1.0)
    work = Pass(targets, o, dtype, device, scale, None if upstream is None else upstream.reshape(-1).to(dtype))
    if listen is not None:
        work.watch(entropy_stride(torch.Size((rows, classes)), device))

    many = max(LEAST_ROWS, LOGITS // max(1, classes)) if host else ROWS_ON_DEVICE
    many = max(1, min(many, rows))
    logits = torch.empty(many, classes, dtype=dtype, device=device)
    gradient = torch.empty_like(logits)
    d_hidden = torch.empty(hidden.shape, dtype=dtype, device=device) if needs[0] else None
    d_matrix = torch.zeros(matrix.shape, dtype=dtype, device=device) if needs[1] else None
    d_bias = torch.zeros(classes, dtype=dtype, device=device) if needs[2] else None
    inside = max(1, CHUNK // max(1, classes)) if host else many
    for first in range(0, rows, many):
        last = min(first + many, rows)
        h = hidden[first:last].to(work_dtype)
        z, g = logits[: last - first], gradient[: last - first]
        _product(h, matrix.t(), z)
        if offset is not None:
            z.add_(offset)
        for a in range(0, last - first, inside):
            part = slice(a, min(a + inside, last - first))
            place = slice(first + part.start, first + part.stop)
            q = None if targets.probability is None else targets.probability[place]
            work.chunk(z[part], g[part], g[part] if any(needs) else None, place, q)
        flow = g.to(work_dtype)
        if d_hidden is not None:
            _product(flow, matrix, d_hidden[first:last])
        if d_matrix is not None:
            if half:
                d_matrix += torch.mm(flow.t(), h, out_dtype=dtype)
            else:
                d_matrix.addmm_(flow.t(), h)
        if d_bias is not None:
            d_bias += g.sum(0)
    if listen is not None:
        report(work.telemetry(), listen[0])
    return work.loss(), [d_hidden, d_matrix, d_bias]


class FusedLinearCrossEntropy(torch.autograd.Function):
    """Saved: hidden, matrix, bias or None, target, class weight or None. Backward as `FusedCrossEntropy`'s."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        matrix: Tensor,
        bias: Tensor | None,
        target: Tensor,
        weight: Tensor | None,
        o: Options,
        listen: Any,
        dtype: torch.dtype,
    ) -> Tensor:
        # 'none' has an upstream factor for each row, and the rows are summed into dW: they have to wait for it
        needs = ctx.needs_input_grad[:3]
        ctx.wait = o.reduction == "none"
        loss, ctx.gradients = _run(hidden, matrix, bias, target, weight, o, (False,) * 3 if ctx.wait else needs, listen)
        if ctx.wait:
            ctx.gradients = None
        ctx.save_for_backward(hidden, matrix, bias, target, weight)
        ctx.o, ctx.dtype = o, dtype
        return loss.to(dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        needs, o = ctx.needs_input_grad[:3], ctx.o
        if torch.is_grad_enabled():
            hidden, matrix, bias, target, weight = ctx.saved_tensors
            again = _plain(hidden, matrix, bias, target, weight, o, ctx.dtype)
            wanted = [t for t, need in zip((hidden, matrix, bias), needs) if need]
            found = iter(torch.autograd.grad(again, wanted, upstream.to(again.dtype), create_graph=True))
            return (*(next(found) if need else None for need in needs), *(None,) * 5)
        gradients, ctx.gradients = ctx.gradients, None
        hidden, matrix, bias, target, weight = ctx.saved_tensors
        if gradients is None:
            by_row = upstream if o.reduction == "none" else None
            gradients = _run(hidden, matrix, bias, target, weight, o, needs, None, by_row)[1]
        if o.reduction != "none":
            factor = float(upstream) if upstream.device.type == "cpu" else upstream
            if not isinstance(factor, float) or factor != 1.0:
                gradients = [None if g is None else g.mul_(factor) for g in gradients]
        like = (hidden, matrix, bias)
        return (*(None if g is None else g.to(t.dtype) for g, t in zip(gradients, like)), *(None,) * 5)


@overridable
def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    telemetry: Receiver | None = None,
) -> Tensor:
    """cross_entropy(linear(input, linear_weight, linear_bias), target), in nats, without the logits.

    input: (..., D); linear_weight: (C, D), as nn.Linear's; linear_bias: (C,); target: class indices (...) or probabilities (...,
    C);
    weight: (C,). Half precisions are projected and summed in float32. On the CPU a float32 copy of a half-precision matrix is made.
    Options, telemetry and errors as `cross_entropy`. Gradients to input, linear_weight and linear_bias; for reduction 'none', a
    second backward, or derivatives of derivatives the logits are computed again.
    """
    o = Options(ignore_index, reduction, label_smoothing, z_loss)
    if input.dim() == 0 or linear_weight.dim() != 2 or input.shape[-1] != linear_weight.shape[1]:
        raise ValueError(
            f"input {tuple(input.shape)} and linear_weight {tuple(linear_weight.shape)} do not fit: "
            "they must be (..., D) and (C, D)"
        )
    if linear_bias is not None and linear_bias.shape != linear_weight.shape[:1]:
        raise ValueError(f"linear_bias must have shape ({linear_weight.shape[0]},), got {tuple(linear_bias.shape)}")
    classes = linear_weight.shape[0]
    lead = input.shape[:-1]
    hidden = input.reshape(-1, input.shape[-1])
    expected = (*lead, classes) if target.is_floating_point() else lead
    if target.shape != torch.Size(expected):
        raise ValueError(f"target has shape {tuple(target.shape)}, expected {tuple(expected)}")
    flat = target.reshape(-1, classes) if target.is_floating_point() else target.reshape(-1)
    check(torch.empty(hidden.shape[0], classes, dtype=input.dtype, device="meta"), flat, weight, o)
    dtype = result_dtype(input, flat, weight)
    others = [t for t in (flat, weight) if t is not None]
    learned = [t for t in (hidden, linear_weight, linear_bias) if t is not None]
    recorded = torch.is_grad_enabled()
    if traced(*learned, *others) or (recorded and any(t.requires_grad for t in others)) or not classes:
        loss = _plain(hidden, linear_weight, linear_bias, flat, weight, o, dtype)
    else:
        listen = (telemetry,) if telemetry is not None or listeners else None
        if recorded and any(t.requires_grad for t in learned):
            loss = FusedLinearCrossEntropy.apply(hidden, linear_weight, linear_bias, flat, weight, o, listen, dtype)
        else:
            loss = _run(hidden, linear_weight, linear_bias, flat, weight, o, (False,) * 3, listen)[0].to(dtype)
    return loss.reshape(lead) if reduction == "none" else loss


class LinearCrossEntropyLoss(nn.Module):
    """A projection of D features to C classes with its loss: forward(hidden, target). Holds `weight` (C, D) and `bias` as
    nn.Linear."""

    bias: Tensor | None
    class_weight: Tensor | None

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        bias: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        reduction: str = "mean",
        weight: Tensor | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        keep_telemetry: bool = False,
    ) -> None:
        super().__init__()
        start = nn.Linear(in_features, num_classes, bias, device, dtype)
        self.weight, self.bias = start.weight, start.bias
        self.register_buffer("class_weight", weight)
        self.reduction, self.ignore_index = reduction, ignore_index
        self.label_smoothing, self.z_loss = label_smoothing, z_loss
        self.keep_telemetry = keep_telemetry
        self.telemetry: Telemetry | None = None

    def _keep(self, seen: Telemetry) -> None:
        self.telemetry = seen

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return linear_cross_entropy(
            input,
            self.weight,
            target,
            linear_bias=self.bias,
            weight=self.class_weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            z_loss=self.z_loss,
            telemetry=self._keep if self.keep_telemetry else None,
        )
