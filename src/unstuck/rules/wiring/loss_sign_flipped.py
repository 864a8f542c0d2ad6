"""The update makes the loss larger: a minus sign is missing, or one too many.

## What it means
The optimizer goes down the gradient of what it is given. Here that is minus the loss (a log-likelihood without its
minus sign), or the update itself goes up: maximize=True on a loss, or weights that are changed by + lr * gradient.

## What is seen
The sign of the loss in the autograd graph, counted from the tensor that backward was called on; the option maximize of
the optimizer; and at every sampled step the sign of the product of gradient and update.

## Why training gets stuck
The model learns to be wrong. The cross-entropy rises, or the printed value falls without bound, and the accuracy drops
below chance.

## Fix
Minimise the negative log-likelihood: put the minus sign back, remove maximize=True, or subtract lr * gradient.

## Not to be confused with
Maximising a log-likelihood on purpose, with maximize=True or an update that goes up: two signs that cancel. Gradient
reversal and adversarial training, where one part of several goes up. Policy gradients. A negative loss of NLLLoss on
probabilities: W107.

## References
torch.optim: "maximize (bool, optional) - maximize the objective with respect to the params, instead of minimizing".
"""

from __future__ import annotations

from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Loop, Optimizer, Site
from unstuck.trace.trace import Trace

CODE = "W112"
NEEDS = ("terms", "loop")
EXPLAINS = ("N701",)

_CLASSIFICATION = frozenset({"cross-entropy", "soft-cross-entropy", "nll", "bce", "bce-logits"})
ENOUGH = 5  # sampled steps that all go up the gradient


def check(trace: Trace) -> Finding | None:
    facts = trace.facts
    loop = facts.loop
    terms = [t for t in facts.terms if t.kind != "unknown"]
    if len(terms) != 1 or loop.unjudged or loop.adversarial:
        return None
    term = terms[0]
    if term.kind not in _CLASSIFICATION or not term.judged or term.sample_weighted:
        return None
    stepping = [o for o in facts.optimizers if o.steps]
    asked = {o.maximize for o in stepping}
    if len(asked) > 1:
        return None
    maximize = asked == {True}
    # A strong decay alone can turn the update against the gradient.
    upwards = loop.ascent_checked >= ENOUGH and loop.ascent == loop.ascent_checked and all(
        not o.weight_decay for o in stepping
    )
    up = maximize or upwards
    if term.sign == -1 and not up and loop.functional and loop.ascent_checked < ENOUGH:
        return None  # weights changed by hand, in a direction nobody has seen
    if term.sign == -1 and not up and term.coefficient is None:
        return None  # multiplied by what depends on the model (a focal weight): the sign was read on one branch
    if (term.sign == -1) == up:
        return None
    counted = Evidence(
        f"At all {loop.ascent_checked} sampled steps the update went up the gradient.",
        value=float(loop.ascent_checked),
        unit="steps",
        source="loop",
    )
    if term.sign == -1:
        evidence = [Evidence("In the graph the loss enters what is minimised with a minus sign.")]
        locations: list[Site] = sites(term.sign_site, term.site)
        fix = "Minimise the negative log-likelihood: put the minus sign back (or remove the one too many)."
    elif maximize:
        text = "The optimizer was made with maximize=True, and what it is given is a loss."
        evidence = [Evidence(text, source="loop")]
        if upwards:
            evidence.append(counted)
        locations = sites(*(o.made for o in stepping if o.maximize), loop.step_site)
        fix = "Remove maximize=True, or maximise the log-likelihood instead of the loss."
    else:
        evidence = [counted]
        locations = sites(loop.step_site, *(o.step_site for o in stepping))
        fix = "Subtract lr * gradient from the weights instead of adding it."
    return Finding(
        CODE,
        "loss-sign-flipped",
        "certain",
        "The update makes the loss larger: its sign is flipped.",
        bearing="blocks",
        evidence=evidence,
        locations=locations,
        fix=Fix(fix, "safe", intervention=Intervention("negate-loss")),
    )


def sick() -> Trace:
    line = synthetic.site(41, "return logp.gather(1, y[:, None]).mean()", synthetic.TRAIN, "train")
    return synthetic.training(synthetic.cross_entropy(sign=-1, site=line, made=None), state="above-chance")


def healthy() -> Trace:
    optimizer = Optimizer("Adam", steps=400, tensors=2, maximize=True, lr_first=1e-3, lr_largest=1e-3, lr_last=1e-3)
    loop = Loop(forwards=400, backwards=400, steps=400, stale_checked=399, grad_checked=50, no_effect_checked=50,
                ascent_checked=50, ascent=50)  # fmt: skip
    return synthetic.training(synthetic.cross_entropy(sign=-1), state="learning", optimizers=[optimizer], loop=loop)
