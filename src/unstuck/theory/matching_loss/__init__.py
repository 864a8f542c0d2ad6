"""An activation -> the loss whose gradient drops the activation's derivative, derived and checked step by step.

With a = s(z) the chain rule gives dL/dz = dL/da * s'(z). Where s is flat, s'(z) is almost 0 and a wrong answer learns
nothing: that is the plateau of squared error behind a sigmoid. The matching loss is the solution of

    dL/da * s'(z) = a - y,        so that        dL/dz = s(z) - y

Written in the logit it needs no inverse: L(z) = A(z) - y z with A' = s. That is convex exactly when s never falls.

What is said of any such loss (A* is the convex conjugate of A, A*(y) = max over z of y z - A(z)):
- floor for a target y: -A*(y), reached where s(z) = y; for y at the edge of the range of s only in the limit, and only
  where s reaches its edge fast enough.
- chance level: the best constant answer to targets of mean m has s(z) = m and costs -A*(m).
Both move by the same c0 + c1 y when such a constant is added to the loss; the pages say which one was added.

Everything is in nats. SymPy is imported inside functions. `parser` reads what a person typed, `calculus` computes and
checks, `source` writes the torch function, `pages` has the words. No bound is known for how long SymPy may think about an
expression, so expressions are worked on in a second process, which is stopped after a while; the page has what it knew.
Sources: the matching loss is Auer, Herbster and Warmuth, NIPS 1995; as the canonical link of a generalised linear model,
McCullagh and Nelder, 1989, chapter 2; as a Fenchel-Young loss, Blondel, Martins and Niculae, JMLR 2020.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from unstuck.errors import UnstuckError, UsageError
from unstuck.theory.matching_loss import calculus, pages, source
from unstuck.theory.matching_loss.calculus import Check
from unstuck.theory.matching_loss.pages import Derivation, Step
from unstuck.theory.matching_loss.parser import parse, printed
from unstuck.theory.matching_loss.source import Level

__all__ = ["ACTIVATIONS", "TOPICS", "Check", "Derivation", "Level", "Step", "derive", "matching_loss", "parse"]

ACTIVATIONS: dict[str, str] = {
    "sigmoid": "1/(1 + exp(-z)): binary cross-entropy",
    "softmax": "the vector case: cross-entropy, gradient p - y",
    "tanh": "targets in -1..1: log cosh z - y z, binary cross-entropy of 2z",
    "probit": "the normal distribution function; not the likelihood",
    "cloglog": "1 - exp(-exp(z)), complementary log-log; not the likelihood",
    "identity": "half the squared error",
}
TOPICS: dict[str, str] = {
    "entropy": "cross-entropy = entropy + Kullback-Leibler divergence",
    "likelihood": "minimal cross-entropy = maximum likelihood",
}
SECONDS = 10.0  # for one expression


def derive(what: str, *, seconds: float = SECONDS) -> Derivation:
    """A topic (entropy, likelihood), a named activation, or the matching loss of an expression in z. See `matching_loss`."""
    topics = {"entropy": pages.entropy, "likelihood": pages.likelihood}
    name = what.strip().lower()
    return topics[name]() if name in topics else matching_loss(what, seconds=seconds)


def matching_loss(activation: Any, *, seconds: float = SECONDS) -> Derivation:
    """The derivation of the loss whose gradient at the logit is s(z) - y.

    - `activation`: a name of `ACTIVATIONS`, an expression in z as text (grammar: `parse`), or a SymPy expression in one
      symbol named z, which is printed and read again by the same grammar.
    - `seconds`: limit for an expression. What is not derived by then is left out, and the page says where it stopped.

    Where no such loss exists, `exists` is False and `answer` says why. UsageError (exit code 2), naming the input, for
    what cannot be read as an activation, or not be evaluated in the time.
    """
    text = (activation if isinstance(activation, str) else printed(activation)).strip()
    name = text.lower()
    if name == "softmax":
        return pages.softmax()
    if name in ACTIVATIONS:
        work = calculus.Work(name, pages.named(name).expr)
        for stage in (calculus.split, calculus.run_of, calculus.integrate, calculus.limits, calculus.invert, calculus.solve):
            stage(work)
        return pages.completed(name, work)
    parse(text)  # refuses at once what needs no second process to be refused
    if not seconds > 0.0:
        raise UsageError(f"seconds must be positive, got {seconds!r}")
    return _limited(text, seconds)


def worked(text: str, tell: Callable[[Derivation, str], None] = lambda page, doing: None) -> Derivation:
    """The page of an expression, in this process. `tell` hears of each state of it and what is done next."""
    work = calculus.Work(text, parse(text))
    if not work.expr.free_symbols:
        raise UsageError(f"{text!r} does not contain z: write an activation as an expression in z, for instance 'z/(1+Abs(z))'")
    calculus.split(work)
    calculus.run_of(work)
    page = pages.custom(work)
    if work.course.kind not in ("rising", "flat"):
        return page
    function, levels = None, []
    # what may never end comes last; the function comes before the integral as well, for that may be one of these
    for stage, doing in (
        (None, "writing the function"),
        (calculus.integrate, "integrating s(z)"),
        (None, "writing the function"),
        (calculus.limits, "finding the range"),
        (None, "finding the levels"),
        (calculus.invert, "inverting the activation"),
        (calculus.solve, "writing the loss in a"),
    ):
        tell(page, doing)
        try:
            if stage is not None:
                stage(work)
            elif doing == "writing the function":
                function = source.emitted(work)
            elif function is not None:
                levels = source.levels(work, function)
        except (UnstuckError, MemoryError):
            raise
        except Exception:  # whatever SymPy raises means the same here: no closed form this way
            continue
        page = pages.custom(work, function, levels)
    return page


def _limited(text: str, seconds: float) -> Derivation:
    """`worked` in a process of its own, which is ended after `seconds`: the last page it told."""
    silent = {"stderr": subprocess.DEVNULL, "text": True, "encoding": "utf-8"}
    command = [sys.executable, "-c", "from unstuck.theory.matching_loss import _serve; _serve()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **silent) as child:
        assert child.stdin is not None and child.stdout is not None
        # starting Python and SymPy is not the expression's fault, and a busy machine is slow at it
        timer = threading.Timer(60.0, child.kill)
        timer.start()
        said: dict[str, Any] | None = None
        try:
            child.stdin.write(text + "\n")
            child.stdin.close()
            for line in child.stdout:
                if said is None:
                    timer.cancel()
                    timer = threading.Timer(seconds, child.kill)
                    timer.start()
                if line.endswith("\n"):  # not one that was cut off
                    said = json.loads(line)
        finally:
            timer.cancel()
            child.kill()
    if said is None or "failed" in said:
        raise UnstuckError(f"the derivation of {text!r} failed: {said['failed'] if said else 'its process does not start'}")
    if "usage" in said:
        raise UsageError(said["usage"])
    if "page" not in said:
        raise UsageError(f"{text!r} cannot be evaluated in {seconds:g} s between z = -40 and 40: write it with smaller numbers")
    page = Derivation.from_dict(said["page"])
    if said["doing"]:
        stopped = f"(Stopped at the limit of {seconds:g} s, or of memory, while {said['doing']}: no more was found.)"
        page = replace(page, answer=f"{page.answer} {stopped}")
    return page


def _serve() -> None:
    """The other side of `_limited`: the expression on standard input, pages as lines of JSON on standard output."""
    import sympy  # noqa: F401  before the clock starts

    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))  # exp(exp(exp(z))) asks for more memory than there is
    except (ImportError, ValueError, OSError):
        pass  # no such limit on this system: the time limit remains

    def tell(message: dict[str, Any]) -> None:
        print(json.dumps(message), flush=True)

    tell({"doing": "starting"})
    try:
        page = worked(sys.stdin.readline().strip(), lambda page, doing: tell({"page": page.as_dict(), "doing": doing}))
        tell({"page": page.as_dict(), "doing": ""})
    except UsageError as error:
        tell({"usage": str(error)})
    except (MemoryError, RecursionError):
        pass  # what was told last is what there is
    except Exception as error:
        tell({"failed": f"{type(error).__name__}: {error}"})
