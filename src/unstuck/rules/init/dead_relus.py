"""A layer of ReLUs is 0 for every sample: no signal forward, no gradient back.

## What it means
A ReLU whose sum is negative for every input puts out 0 and has derivative 0: its weights get no gradient and it stays as it
is. When that holds for all units of a layer the layers before it are cut off.

## What is seen
At several looks, on different batches, all units of a ReLU layer (or more than nine tenths of them) were 0 in every row.

## Why training gets stuck
What lies behind the layer sees a constant: it learns the base rates. What lies before it gets no gradient.

## Fix
Leave biases at 0 and draw the weights by He's rule; a shorter first step or a warm-up, where they died after it;
LeakyReLU or a norm layer before the ReLU.

## Not to be confused with
Units that are 0 on half of the samples, which is what a ReLU is for. A wide layer with some dead units that learns. ReLUs
that died at a step that was too long (S501) or under inputs (D203) or weights (I602) that are too large: these are named
first. A ReLU on the logits themselves (W106).

## References
L. Lu et al., Dying ReLU and initialization: theory and numerical examples, Commun. Comput. Phys. 28, 2020.
"""

from __future__ import annotations

from unstuck import symptom
from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules import levels
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Layer, LayerLook
from unstuck.trace.trace import Trace

CODE = "I603"
NEEDS = ("layers",)
EXPLAINS = ("G302", "G303", "S502", "S505", "D207", "I605", "U402", "U406", "U410", "N703", "G305")
MOST = 0.9  # of the units: what is left is a tenth of the width that was asked for


def check(trace: Trace) -> Finding | None:
    state = symptom.of(trace)
    if state.learns:
        return None
    found: list[tuple[Layer, float, bool]] = []
    for layer in trace.facts.layers:
        if layer.op != "relu" or not layer.units or layer.units < 2:
            continue
        # One row says nothing: a unit that is 0 on it may answer to the next.
        seen = [look for look in layer.looks if levels.known(look.dead) is not None and look.rows > 1]
        late = seen[len(seen) // 2 :]
        shares = levels.looks(late, "dead")
        if len(shares) < 2 or min(shares) < MOST:
            continue
        found.append((layer, min(shares), (seen[0].dead or 0.0) >= MOST))
    term = trace.facts.term
    if term is not None and any(n.op == "relu" for n in term.path[:3]):
        heads = {n.where for n in term.path[:3] if n.op == "relu"}
        found = [f for f in found if f[0].where is None or f[0].where not in heads]
    if not found:
        return None
    whole = [f for f in found if f[1] == 1.0]
    if not whole and not (state.stuck or state.name == "too-early"):
        return None
    layer, share, from_start = (whole or found)[0]
    # Where the layer is the only way, its death blocks everything before it; a residual branch leaves the sum.
    blocked = bool(whole) and state.stuck
    return Finding(
        CODE,
        "dead-relus",
        "certain" if whole else "likely",
        f"{'All' if share == 1 else f'{share:.0%} of the'} {layer.units} ReLU units are 0 for every sample"
        + (" from the first look on." if from_start else ": they died during the training."),
        bearing="blocks" if blocked else "hinders",
        evidence=[
            Evidence(
                "Share of units that are 0 in every row of the batch, by step: "
                + ", ".join(f"{k.step}: {k.dead:.0%}" for k in _few([k for k in one.looks if levels.known(k.dead) is not None]))
                + f" ({one.units} units).",
                value=low, unit="share", source="values",
            )
            for one, low, _ in (whole or found)[:3]
        ],
        # The learning rate, where that is what to change, stands where the optimizer is made.
        locations=sites(
            *_before(trace, layer), layer.where, *(o.made for o in trace.facts.optimizers if o.steps and not from_start)
        ),
        fix=Fix(
            "Leave the biases at 0 and draw the weights with nn.init.kaiming_normal_; or use LeakyReLU."
            if from_start
            else "Make the first steps shorter (learning rate / 10, or a warm-up); LeakyReLU keeps a gradient.",
            "unsafe",
            intervention=Intervention("reinitialise") if from_start else Intervention("scale-learning-rate", {"factor": 0.1}),
        ),
        separating="Train with LeakyReLU in place of this ReLU, everything else as it is.",
    )  # fmt: skip


def _few(looks: list[LayerLook]) -> list[LayerLook]:
    return looks if len(looks) <= 5 else [looks[0], looks[1], looks[len(looks) // 2], looks[-2], looks[-1]]


def _before(trace: Trace, layer: Layer):
    """The layer whose output enters this ReLU: its weights and bias are what keeps it at 0."""
    layers = trace.facts.layers
    place = layers.index(layer)
    trained = next((x for x in reversed(layers[:place]) if x.parameters), None)
    names = set(trained.parameters) if trained is not None else set()
    return [p.made for p in trace.facts.parameters if p.name in names][:1] or ([trained.where] if trained is not None else [])


def in_order(trace: Trace) -> str:
    shares = [
        levels.looks(layer.looks, "dead")[-1]
        for layer in trace.facts.layers
        if layer.op == "relu" and (layer.units or 0) > 1 and levels.looks(layer.looks, "dead")
    ]
    return f"at most {max(shares):.0%} of the units of a ReLU layer are 0 for all samples" if shares and max(shares) < MOST else ""


def _example(shares: tuple[float, ...], state: str) -> Trace:
    looks = [LayerLook(n, 64, rms=0.0, zeros=s, dead=s) for n, s in zip((1, 2, 10, 50, 100), shares)]
    relu = Layer("relu", "output", [64, 64], 64, synthetic.site(20, "h = torch.relu(self.body(x))"), looks=looks)
    return synthetic.training(state=state, layers=[relu])


def sick() -> Trace:
    return _example((1.0,) * 5, "at-chance")


def healthy() -> Trace:
    return _example((0.0, 0.0, 0.02, 0.05, 0.05), "learning")
