"""`unstuck derive [WHAT]`: where a loss comes from, step by step, with every step checked."""

from __future__ import annotations

import json
import sys
from enum import Enum
from typing import Annotated

import typer

from unstuck.errors import UsageError


class Form(str, Enum):
    """How a derivation is printed."""

    text = "text"
    latex = "latex"
    python = "python"


def derive(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="WHAT",
            help="An activation (sigmoid, softmax, tanh, probit, cloglog, identity), an expression in z such as"
            ' "z/(1+Abs(z))" (after -- where it begins with a minus), or a topic: entropy, likelihood. Without it all are listed.',
        ),
    ] = None,
    form: Annotated[Form, typer.Option("--as", help="A page, LaTeX (needs amsmath), or a tested torch function.")] = Form.text,
    seconds: Annotated[float, typer.Option(help="Limit for an expression of your own.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find the loss whose gradient does not contain the activation's derivative."""
    from unstuck.theory import matching_loss

    if what is None:
        _print(_listed(as_json))
        return
    page = matching_loss.derive(what, seconds=seconds)
    if as_json:
        _print(json.dumps({"schema": 1, **page.as_dict()}, indent=1, ensure_ascii=False))
    elif form is Form.latex:
        _print(f"{page.as_latex()}\n% {page.next}")
    elif form is Form.python:
        if page.python is None:
            raise UsageError(f"there is no function to print: {page.answer}")
        # everything here is source that may be sent to a file, the last line included
        _print(f"{page.python}\n# {_after_python(page.topic)}")
    else:
        _print(f"{page.as_text()}\nNext:\n  {page.next}")


def _after_python(topic: str) -> str:
    return "unstuck demo neuron" if topic != "entropy" else "unstuck derive likelihood"


def _listed(as_json: bool) -> str:
    from unstuck.theory import matching_loss

    own = 'unstuck derive "z/(1+Abs(z))"'
    if as_json:
        listed = {"activations": matching_loss.ACTIVATIONS, "topics": matching_loss.TOPICS}
        return json.dumps({"schema": 1, **listed, "next": "unstuck derive sigmoid"}, indent=1)
    lines = ["The loss whose gradient at the logit z is s(z) - y, for an activation a = s(z):", ""]
    lines += [f"  {name:<11}{text}" for name, text in matching_loss.ACTIVATIONS.items()]
    lines += ["", "or for an expression in z of your own:", "", f"  {own}", "", "What stands behind it:", ""]
    lines += [f"  {name:<11}{text}" for name, text in matching_loss.TOPICS.items()]
    return "\n".join([*lines, "", "Next:", "  unstuck derive sigmoid"])


def _print(text: str) -> None:
    """Formulas are unicode; a terminal that cannot show a sign gets a question mark and no traceback."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    typer.echo(text.encode(encoding, errors="replace").decode(encoding))
