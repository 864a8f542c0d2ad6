"""`unstuck demo neuron`: a plateau and a descent from the same start, at every learning rate."""

from __future__ import annotations

import html
import json
import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unstuck.errors import UsageError

if TYPE_CHECKING:
    from unstuck.theory import neuron as theory

_WIDTH = 80
_MARKS = {"squared error": "s", "cross-entropy": "c"}
_NEXT = "unstuck derive sigmoid"
_RATES = 13
_DEPTHS = (2.0, 4.0, 6.0, 8.0, 10.0)

demo = typer.Typer(no_args_is_help=True, help="Small demonstrations that run in a second.")


@demo.callback()
def _group() -> None:
    """Keeps `demo` a group of verbs although there is only one so far."""


@demo.command()
def neuron(
    weight: Annotated[float, typer.Option(help="Weight at the start.")] = 2.0,
    bias: Annotated[float, typer.Option(help="Bias at the start.")] = 2.0,
    rate: Annotated[float, typer.Option(help="Learning rate of the curves; the scan covers three decades around it.")] = 0.15,
    steps: Annotated[int, typer.Option(help="Steps of the curves.")] = 300,
    target: Annotated[float, typer.Option(help="The answer wanted, from 0 to 1.")] = 0.0,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write a page with the curves: FILE.html.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """One sigmoid neuron, badly saturated: squared error stands still where cross-entropy descends."""
    from unstuck.theory import neuron as theory

    if output is not None and output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{output}: the page is HTML, give a name that ends in .html")
    start = {"weight": weight, "bias": bias, "target": target}
    try:
        runs = [theory.simulate(loss, rate=rate, steps=steps, **start) for loss in theory.LOSSES]
        scanned = [theory.scan(loss, rates=theory.rates(rate, _RATES), **start) for loss in theory.LOSSES]
        depths = [
            theory.flow_time(z if weight + bias > 0 else -z, target) for z in _DEPTHS if _worth(theory, z, weight + bias, target)
        ]
    except ValueError as error:
        raise UsageError(str(error)) from None
    words = _words(theory, runs, scanned, weight, bias, rate, target)
    if as_json:
        typer.echo(json.dumps(_as_dict(runs, scanned, depths, words, start), indent=1))
    else:
        typer.echo("\n".join(_page(runs, scanned, depths, words, start)))
    if output is not None:
        try:
            output.write_text(_html(runs, scanned, depths, words, start), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{output} cannot be written: {error.strerror or error}; choose another place") from None
    if not as_json:
        typer.echo("\n".join(["", *([f"Written: {output}", ""] if output is not None else []), "Next:", f"  {_NEXT}"]))


def _worth(theory, z: float, start: float, target: float) -> bool:
    return theory.plateau_expected(z if start > 0 else -z, target)


# ------------------------------------------------------------------------------------------------------------ words


def _words(
    theory,
    runs: Sequence[theory.Run],
    scanned: Sequence[Sequence[theory.Row]],
    weight: float,
    bias: float,
    rate: float,
    target: float,
) -> dict[str, str]:
    """The sentences that the terminal, the page and the JSON share; every claim in them was just computed."""
    z = weight + bias
    a = float(runs[0].activations[0])
    squared, cross = scanned
    expected = theory.plateau_expected(z, target)
    words = {
        "setting": f"One sigmoid neuron, a = 1/(1 + exp(-(w x + b))), input x = 1, target {target:g}. Start: weight {weight:g},"
        f" bias {bias:g}, a ="
        f" {_answer(a)}. Learning rate {rate:g}, {len(runs[0].drops)} steps.",
    }
    if expected:
        bend = theory.inflexion(target, above=a > target)
        words["why"] = (
            f"Squared error's gradient is (a - y) a (1 - a), y = {target:g}. It grows until a = {bend:.4g} and shrinks after, so"
            " that the loss curve bends down"
            f" first: a start beyond {bend:.4g} is a plateau. Cross-entropy's gradient is a - y: it is largest at the start and"
            " only shrinks, so"
            " that its curve bends up from the first step on."
        )
    else:
        words["why"] = (
            "This start is not saturated: squared error's gradient (a - y) a (1 - a) shrinks from the first step on, as"
            " cross-entropy's does."
            " Both descend at once; for the plateau start farther from the target."
        )
    plateaus, descents = sum(r.shape == "plateau" for r in squared), sum(r.shape == "descent" for r in cross)
    words["scan"] = (
        f"{plateaus} of {len(squared)} rates: squared error has a plateau. {descents} of {len(cross)} rates: cross-entropy"
        " descends at once."
    )
    leap = theory.leap_rate(z, target)
    bound = theory.stable_rate(target)
    limits = []
    if expected and math.isinf(leap):
        limits.append("The gradient of squared error is too small for a float here: no rate moves the neuron.")
    elif expected:
        limits.append(
            f"A rate divides the length of the plateau and cannot remove it, until at a rate of about {leap:.3g} the first step"
            " jumps over all of it."
        )
    limits.append(
        "For cross-entropy the descent is proved for every rate, for the target is at infinity and cannot be overshot."
        if math.isinf(bound)
        else f"With this target a long step can overshoot: the descent of cross-entropy is proved for rates up to {bound:g}."
    )
    words["limits"] = " ".join(limits)
    return words


def _answer(a: float) -> str:
    """An activation whose distance from 1 can be seen."""
    return f"{a:.4g}" if a < 0.9995 else f"1 - {1.0 - a:.1e}" if a < 1.0 else "1, as far as a float can tell"


# ------------------------------------------------------------------------------------------------------------ terminal


def _page(
    runs: Sequence[theory.Run],
    scanned: Sequence[Sequence[theory.Row]],
    depths: Sequence[theory.Time],
    words: dict[str, str],
    start: dict[str, float],
) -> list[str]:
    lines = [*_wrap(words["setting"]), *_wrap("s = squared error, c = cross-entropy, # = both"), ""]
    for title, values in _panels(runs):
        lines += [*_plot(title, values), ""]
    lines += [*_wrap(words["why"]), "", *_table(scanned), "", *_wrap(words["scan"]), *_wrap(words["limits"])]
    if depths:
        lines += ["", "Steps times rate until half of the loss is left, by the depth of saturation", ""]
        lines += [f"  {'start z':>8}  {'a':>9}  {'squared error':>14}  {'cross-entropy':>14}"]
        lines += [f"  {t.z:>8g}  {_activation(t.z):>9}  {t.squared_error:>14.2f}  {t.cross_entropy:>14.2f}" for t in depths]
        lines += ["", *_wrap("The plateau grows like exp(|z|), the descent like |z|.")]
    return lines


def _activation(z: float) -> str:
    return f"{1.0 / (1.0 + math.exp(-z)):.5f}"


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, break_on_hyphens=False)


def _panels(runs: Sequence[theory.Run]) -> list[tuple[str, list[tuple[str, Sequence[float]]]]]:
    return [
        ("Loss, as a share of its start", [(r.loss, r.shares.tolist()) for r in runs]),
        ("Weight", [(r.loss, r.weights.tolist()) for r in runs]),
        ("Gradient, |dL/dw|", [(r.loss, r.gradients.tolist()) for r in runs]),
    ]


def _plot(title: str, curves: Sequence[tuple[str, Sequence[float]]], height: int = 11) -> list[str]:
    """Characters on a grid of 68 columns; 0 is in the picture where the values are not negative."""
    width = 68
    low = min(0.0, *(min(values) for _, values in curves))
    high = max(max(values) for _, values in curves)
    span = (high - low) or 1.0
    grid = [[" "] * width for _ in range(height)]
    for name, values in curves:
        for column in range(width):
            value = values[round(column * (len(values) - 1) / (width - 1))]
            row = height - 1 - round((value - low) / span * (height - 1))
            grid[row][column] = _MARKS[name] if grid[row][column] == " " else "#"
    labels = {
        0: f"{high:.3g}",
        height - 1: f"{low:.3g}",
        (height - 1) // 2: f"{low + span * (1 - ((height - 1) // 2) / (height - 1)):.3g}",
    }
    lines = [title]
    lines += [f"{labels.get(row, ''):>9} |{''.join(line).rstrip()}" for row, line in enumerate(grid)]
    last = len(curves[0][1]) - 1
    return [*lines, f"{'':>9} +{'-' * width}", f"{'':>11}step 0{last!s:>{width - 6}}"]


def _table(scanned: Sequence[Sequence[theory.Row]]) -> list[str]:
    lines = [
        f"{'':>10}  {'--- squared error ---':^32}  {'--- cross-entropy ---':^32}".rstrip(),
        f"{'rate':>10}  {'half at':>8} {'steepest':>9}  {'shape':<12}  {'half at':>8} {'steepest':>9}  shape",
    ]
    for one, two in zip(*scanned):
        cells = [f"{_count(row.half, row):>8} {_count(row.steepest, row):>9}  {row.shape:<12}" for row in (one, two)]
        lines.append(f"{one.rate:>10.4g}  {'  '.join(cells)}".rstrip())
    return [*lines, *_wrap("half at: step at which half of the loss is left; steepest: step that lowers it most.")]


def _count(step: int | None, row: theory.Row) -> str:
    return f">{row.steps}" if step is None else str(step)


# ------------------------------------------------------------------------------------------------------------ JSON


def _as_dict(
    runs: Sequence[theory.Run],
    scanned: Sequence[Sequence[theory.Row]],
    depths: Sequence[theory.Time],
    words: dict[str, str],
    start: dict[str, float],
) -> dict[str, object]:
    curves = [
        {
            "loss": r.loss,
            "rate": r.rate,
            "losses": r.losses.tolist(),
            "weights": r.weights.tolist(),
            "gradients": r.gradients.tolist(),
            "activations": r.activations.tolist(),
        }
        for r in runs
    ]
    return {
        "schema": 1,
        "start": start,
        "runs": curves,
        "scan": [asdict(row) for rows in scanned for row in rows],
        "half_time": [asdict(t) for t in depths],
        "text": words,
        "next": _NEXT,
    }


# ------------------------------------------------------------------------------------------------------------ page

_STYLE = """
:root { --ink: #1c1c1c; --soft: #6b6b6b; --line: #d8d8d8; --paper: #ffffff; --s: #b4451f; --c: #1f6fb4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --soft: #9a9a9a; --line: #3a3a3a; --paper: #161616; --s: #f0895f; --c: #6db3f2; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
figure { margin: 1.5rem 0; } figcaption { color: var(--soft); font-size: .9rem; }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--soft); }
.grid { stroke: var(--line); stroke-width: 1; } .s, .c { fill: none; stroke-width: 2; } .s { stroke: var(--s); }
.c { stroke: var(--c); stroke-dasharray: 7 3; } svg text.ks { fill: var(--s); } svg text.kc { fill: var(--c); }
.thin { stroke-width: 1; opacity: .75; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } th, td { padding: .15rem .7rem; text-align: right; }
thead th { border-bottom: 1px solid var(--line); } code { font-size: .95em; }
"""


def _html(
    runs: Sequence[theory.Run],
    scanned: Sequence[Sequence[theory.Row]],
    depths: Sequence[theory.Time],
    words: dict[str, str],
    start: dict[str, float],
) -> str:
    """A page that needs nothing else: styles and curves are inside."""
    from unstuck.theory import neuron as theory

    figures = []
    last = len(runs[0].drops)
    for title, curves in _panels(runs):
        lines = [(name, [(step, value) for step, value in enumerate(values)]) for name, values in curves]
        figures.append(_figure(title, lines, "step", (0.0, float(last)), f"{title}, over {last} steps at rate {runs[0].rate:g}."))
    lines = []
    for loss in theory.LOSSES:
        for row in scanned[theory.LOSSES.index(loss)]:
            run = theory.simulate(loss, rate=row.rate, steps=max(2, min(row.steps, 20_000)), **start)
            lines.append((loss, [(row.rate * k, float(run.shares[k])) for k in _sampled(len(run.shares))]))
    reach = max(x for _, line in lines for x, _ in line)
    figures.append(
        _figure(
            "All rates of the scan",
            lines,
            "rate times step",
            (0.0, reach),
            "Loss as a share of its start for all rates, against rate times step: the curves of one loss nearly fall on each"
            " other. A rate"
            " stretches the plateau, it does not remove it.",
            thin=True,
        )
    )
    body = [
        f"<h1>Plateau and descent</h1><p>{html.escape(words['setting'])}</p>",
        *figures[:3],
        f"<p>{html.escape(words['why'])}</p>",
    ]
    body += [
        "<h2>At any learning rate</h2>",
        figures[3],
        _html_table(scanned),
        f"<p>{html.escape(words['scan'])} {html.escape(words['limits'])}</p>",
    ]
    if depths:
        rows = "".join(
            f"<tr><td>{t.z:g}</td><td>{_activation(t.z)}</td><td>{t.squared_error:.2f}</td><td>{t.cross_entropy:.2f}</td></tr>"
            for t in depths
        )
        body.append(
            "<h2>The deeper, the longer</h2><div class=scroll><table><thead><tr><th>start z</th><th>a</th><th>squared"
            " error</th><th>cross-entropy</th>"
            f"</tr></thead><tbody>{rows}</tbody></table></div><p>Steps times rate until half of the loss is left. The plateau"
            " grows like exp(|z|), the"
            " descent like |z|.</p>"
        )
    body.append(f"<p>Next: <code>{html.escape(_NEXT)}</code></p>")
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Plateau and descent</title>'
    head += f"<style>{_STYLE}</style>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body></html>\n"


def _sampled(size: int, most: int = 150) -> list[int]:
    """Indices 0..size-1, thinned evenly and, for the steep beginning, evenly on a logarithmic scale as well."""
    last = size - 1
    return sorted({0, *(round(last * k / most) for k in range(most + 1)), *(round(last ** (k / most)) for k in range(most + 1))})


def _figure(
    title: str,
    curves: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    axis: str,
    ends: tuple[float, float],
    caption: str,
    thin: bool = False,
) -> str:
    width, height, left, right, top, bottom = 720.0, 260.0, 58.0, 14.0, 30.0, 40.0
    values = [y for _, line in curves for _, y in line]
    low, high = min(0.0, *values), max(values)
    span, reach = (high - low) or 1.0, (ends[1] - ends[0]) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (x - ends[0]) / reach * (width - left - right), height - bottom - (y - low) / span * (height - top - bottom)

    parts = []
    for tick in (low + span * k / 4 for k in range(5)):
        y = place(ends[0], tick)[1]
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:.3g}</text>')
    for k in range(5):
        tick, anchor = ends[0] + reach * k / 4, "end" if k == 4 else "middle"
        parts.append(f'<text x="{place(tick, low)[0]:.1f}" y="{height - bottom + 17}" text-anchor="{anchor}">{tick:.3g}</text>')
    parts.append(f'<text x="{(left + width - right) / 2}" y="{height - 6}" text-anchor="middle">{html.escape(axis)}</text>')
    parts.append(f'<text class="ks" x="{width - right - 210}" y="16">— squared error</text>')
    parts.append(f'<text class="kc" x="{width - right - 100}" y="16">- - cross-entropy</text>')
    parts.append(f'<text x="{left}" y="16">{html.escape(title)}</text>')
    for name, line in curves:
        points = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in line)
        style = ("s" if name == "squared error" else "c") + (" thin" if thin else "")
        parts.append(f'<polyline class="{style}" points="{points}"/>')
    picture = (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{html.escape(caption, quote=True)}">{"".join(parts)}</svg>'
    )
    return f"<figure>{picture}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _html_table(scanned: Sequence[Sequence[theory.Row]]) -> str:
    head = "<tr><th></th><th colspan=3>squared error</th><th colspan=3>cross-entropy</th></tr>"
    head += "<tr><th>rate</th>" + "<th>half at</th><th>steepest</th><th>shape</th>" * 2 + "</tr>"
    rows = []
    for pair in zip(*scanned):
        cells = "".join(
            f"<td>{html.escape(_count(r.half, r))}</td><td>{html.escape(_count(r.steepest, r))}</td><td>{html.escape(r.shape)}</td>"
            for r in pair
        )
        rows.append(f"<tr><td>{pair[0].rate:.4g}</td>{cells}</tr>")
    return f"<div class=scroll><table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table></div>"
