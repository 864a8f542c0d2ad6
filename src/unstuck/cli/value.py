"""`unstuck value NUMBER`: which closed form a loss that stands still is standing on."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict
from typing import Annotated

import typer

from unstuck.errors import UsageError
from unstuck.theory import lookup

_WIDTH = 80
_SHOWN = 5
_NEXT = "unstuck run train.py"
_AGREEMENT = {
    "exact": "agrees in every digit given",
    "last-digit": "off by one in the last digit",
    "near": "within 0.1 %, at this level within noise",
}


def value(
    number: Annotated[
        str,
        typer.Argument(
            metavar="NUMBER", help="The loss as printed, with all its digits: 1.4612. Write -- before a negative one."
        ),
    ],
    classes: Annotated[int | None, typer.Option(help="Number of classes K, or size of the vocabulary.")] = None,
    batch: Annotated[int | None, typer.Option(help="Samples per step.")] = None,
    prior: Annotated[
        str | None, typer.Option(help="Shares of the classes, 0.9,0.1; one number is the share of positives.")
    ] = None,
    accuracy: Annotated[str | None, typer.Option(help="Accuracy as printed, a fraction: 0.6667.")] = None,
    sequence: Annotated[int | None, typer.Option(help="Length of the time axis.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say which closed form a loss equals, what that means, and what to do next."""
    try:
        shares = _shares(prior)
        matches = lookup.explain_value(
            number, classes=classes, batch=batch, prior=shares, accuracy=accuracy, sequence=sequence
        )
        ruler = lookup.nearest(number, classes=classes, prior=shares)
        parsed, _ = lookup.written(number)
    except (UsageError, ValueError) as error:
        typer.echo(f"unstuck value: {error}", err=True)
        raise typer.Exit(UsageError.exit_code) from None
    if as_json:
        answer = {
            "schema": 1, "value": parsed, "written": number.strip(), "matches": [asdict(m) for m in matches],
            "nearest_usual": {"formula": ruler.formula, "value": ruler.value}, "next": _NEXT,
        }
        typer.echo(json.dumps(answer, indent=1))
    else:
        typer.echo("\n".join(_lines(parsed, number.strip(), matches, ruler, classes is not None or shares is not None)))


def _shares(prior: str | None) -> list[float] | None:
    if prior is None:
        return None
    try:
        return [float(part) for part in prior.replace(";", ",").split(",")]
    except ValueError:
        raise UsageError(f"--prior must be numbers with commas between them, 0.9,0.1, got {prior!r}") from None


def _wrap(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _lines(
    parsed: float, number: str, matches: list[lookup.Match], ruler: lookup.Match, classes_known: bool
) -> list[str]:
    if not matches:
        return _nothing(parsed, number, ruler, classes_known)
    lines: list[str] = []
    for place, match in enumerate(matches[:_SHOWN], start=1):
        lines += _wrap(f"{place}. {match.name}" + (f"  [{match.code}]" if match.code else ""))
        lines += _wrap(f"{match.formula} = {match.value:.6g}: {_AGREEMENT[match.agreement]}", "   ")
        lines += _wrap(f"({_odds(match.accidental)})", "   ")
        lines += _wrap(match.meaning, "   ")
        if match.code:
            lines.append(f"   More: unstuck explain {match.code}")
        lines.append("")
    if len(matches) > _SHOWN:
        lines += [f"and {len(matches) - _SHOWN} weaker ones (--json shows all)", ""]
    return [*lines, *_wrap("A number is a hint, not a proof. To see the cause in the training itself:"), f"  {_NEXT}"]


def _odds(accidental: float) -> str:
    if accidental < 1e-6:
        return "by accident: less than once in a million such numbers"
    return f"by accident: about once in {round(1.0 / accidental, 1 - len(str(int(1.0 / accidental)))):.0f} such numbers"


def _nothing(parsed: float, number: str, ruler: lookup.Match, classes_known: bool) -> list[str]:
    text = f"nothing fits: {number} equals none of the levels a loss gets stuck at, as far as its digits can tell."
    distance = parsed / ruler.value - 1.0 if ruler.value > 0.0 else 1.0
    level = f"{ruler.name}, {ruler.formula} = {ruler.value:.4f}"
    if classes_known and ruler.value > 0.0:
        text += f" For comparison: {level}; yours is {abs(distance):.1%} {'above' if distance > 0.0 else 'below'}."
        if distance < 0.0 and ruler.name == "uniform guess":
            text += " A plain cross-entropy below the uniform guess knows at least which classes are frequent."
    elif abs(distance) <= 0.01:
        text += f" Closest is the {level}, {abs(distance):.2%} away."
    if not classes_known:
        text += " With --classes K (and --accuracy, --prior, --batch) more can be recognised."
    return [*_wrap(text), "", *_wrap("To see what the training itself does:"), f"  {_NEXT}"]
