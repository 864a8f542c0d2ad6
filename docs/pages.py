"""The parts of the documentation that are made from the program and its measurements, and so cannot be out of date.

A page says `<!-- unstuck: NAME arguments -->` on a line of its own, and `fill` puts the answer of the function NAME below there:
what `unstuck value` prints, the list of rules, constants, source code, tables of the benchmark files. Pages that exist only as
output (one for each rule, the command line, the notebooks) come from `generated`. `hooks.py` hands both to mkdocs.

    python docs/pages.py     writes the README's own copies anew, between `<!-- made: NAME -->` and `<!-- end -->`
"""

from __future__ import annotations

import ast
import html
import importlib
import inspect
import json
import math
import os
import re
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

REPO = Path(__file__).resolve().parent.parent
DOCS = REPO / "docs"
GALLERY = REPO / "gallery"
SOURCE = REPO / "src" / "unstuck"
MADE = re.compile(r"(<!-- made: (\w+) -->\n).*?(\n<!-- end -->)", re.S)
DIRECTIVE = re.compile(r"^<!-- unstuck: (\w+)([^\n]*?) -->$", re.M)
CODE = re.compile(r"(?<![\w`/\[])([A-Z]\d{3})(?![\w`\]])")
# Characters that Markdown would read, as it is told to take them literally.
_LITERAL = str.maketrans({c: f"\\{c}" for c in "\\*_[]$"} | {"<": "&lt;", ">": "&gt;", "|": "&#124;"})
ROOMS = {
    "wiring": "Wiring of head and loss", "update": "Update loop", "gradient": "Gradient", "data": "Data", "step": "Step length",
    "init": "Weights and layers", "numerics": "Numbers", "evaluation": "Evaluation and reduction",
}  # fmt: skip


def generated() -> dict[str, str]:
    """Path in the site -> Markdown, of the pages that no file in docs/ holds."""
    pages = {f"rules/{code}.md": rule_page(code) for code in _rules()}
    pages |= {"rules/index.md": rules_index(), "cli.md": cli_page()}
    # Running the notebooks takes half a minute: `make docs` asks for it, the tests of the site do without.
    run = os.environ.get("UNSTUCK_DOCS_RUN") == "1"
    pages |= {f"notebooks/{file.stem}.md": notebook_page(file, run=run) for file in notebooks()}
    return pages


def navigation() -> list[dict[str, Any]]:
    """The section of the rules for the menu: an overview, then one list for each room."""
    by_room: list[dict[str, Any]] = [{"Overview": "rules/index.md"}]
    for room, title in ROOMS.items():
        mine = [{f"{code} {rule.name}": f"rules/{code}.md"} for code, rule in _rules().items() if room_of(rule) == room]
        by_room.append({title: mine})
    return by_room


def fill(markdown: str) -> str:
    """The page with every directive answered. ValueError for a directive that does not exist."""

    def answer(found: re.Match[str]) -> str:
        name, arguments = found[1], found[2].split()
        if name not in DIRECTIVES:
            raise ValueError(f"no directive {name!r}; there are {', '.join(sorted(DIRECTIVES))}")
        return DIRECTIVES[name](*arguments)

    return DIRECTIVE.sub(answer, markdown)


# ------------------------------------------------------------------------------------------------------------ rules


@cache
def _rules() -> dict[str, Any]:
    from unstuck.rules import rules

    return rules()


def room_of(rule: Any) -> str:
    """The room (folder) a rule's file is in."""
    return rule.check.__module__.split(".")[-2]


def linked(text: str, here: str = "") -> str:
    """Every code of a rule that exists becomes a link, seen from a page in rules/ (or from `here`, a prefix)."""
    known = _rules()
    return CODE.sub(lambda m: f"[{m[1]}]({here}{m[1]}.md)" if m[1] in known else m[1], text)


def prose(text: str) -> str:
    """Text of a docstring as Markdown: what stands outside of backticks is taken as it was typed."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else part.translate(_LITERAL) for part in parts)


def rule_page(code: str) -> str:
    """The page of a rule: its docstring, what a report says of its own example, scripts to try, and how often it was right."""
    from unstuck.trace.channels import BY_NAME

    rule = _rules()[code]
    first, _, rest = rule.page.partition("\n")
    lines = [f"# {code} {rule.name}", "", f"**{prose(first)}**", ""]
    lines += [linked(prose(_joined(rest.strip()))), ""]
    lines += ["## What the report says", ""]
    if rule.costly:
        lines += ["This rule works on samples of your own data; its text holds their figures. Run a script below to see it.", ""]
    else:
        lines += ["On the made-up training that is this rule's own test:", "", "```text", *_report_of(rule), "```", ""]
    lines += ["## What it needs to see", ""]
    lines += [f"- `{name}`: {prose(BY_NAME[name].meaning)} ({BY_NAME[name].cost})" for name in rule.needs]
    lines += ["", "Where one of these could not be observed, the report lists this rule under *not checked*, with the reason.", ""]
    if rule.explains:
        lines += [linked(f"Where this is the cause, it explains {', '.join(rule.explains)}: these are then listed under it."), ""]
    lines += ["## How often it is right", "", measured_for(code), ""]
    scripts = gallery_of(code)
    if scripts:
        lines += ["## Scripts that have it", "", f"In `{scripts[0].parent.relative_to(REPO)}/`, each with a healthy twin:", ""]
        lines += [f"- `{file.name}`" + (f", the line at fault: {_as_code(line)}" if line else "")
                  for file in scripts for line in [fault_line(file)]]  # fmt: skip
        lines += [""]
    return "\n".join(lines)


def _joined(page: str) -> str:
    """Headings get the blank line below that Markdown does not ask for and readers of the source do."""
    return re.sub(r"(?m)^(## .+)\n(?!\n)", r"\1\n\n", page)


def _as_code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _report_of(rule: Any) -> list[str]:
    """What the terminal says of the finding on the rule's sick() trace, with its evidence and its fix."""
    import textwrap

    finding = rule.check(rule.sick())
    wrap = textwrap.TextWrapper(width=80, subsequent_indent="      ", break_on_hyphens=False)
    lines = [f"{finding.code} {finding.name}  ({finding.grade})"]
    wrap.initial_indent = wrap.subsequent_indent = "  "
    lines += wrap.wrap(finding.summary)
    lines += [f"  {site.file}:{site.line}" for site in finding.locations]
    told = [(evidence.text, "  Seen: ") for evidence in finding.evidence]
    told += [(finding.fix.summary, "  Fix:  ")] if finding.fix is not None else []
    for text, head in told:
        wrap.initial_indent, wrap.subsequent_indent = head, " " * 8
        lines += wrap.wrap(text)
    return lines


def gallery_of(code: str) -> list[Path]:
    """Sick scripts of the gallery, sorted by name."""
    return sorted(file for folder in GALLERY.glob(f"{code}_*") for file in folder.glob("sick_*.py"))


def fault_line(file: Path) -> str:
    """The line marked `# <- fault`, without the mark."""
    marked = [line for line in file.read_text(encoding="utf-8").splitlines() if "# <- fault" in line]
    return marked[0].split("# <- fault")[0].strip() if marked else ""


def rules_index() -> str:
    """The overview: one table for each room."""
    lines = ["# All diagnoses", "", f"{len(_rules())} faults are known by name. `unstuck explain CODE` prints the same pages.", ""]
    for room, title in ROOMS.items():
        lines += [f"## {title}", "", "| code | name | in one sentence |", "|---|---|---|"]
        lines += [f"| [{code}]({code}.md) | {rule.name} | {prose(rule.summary)} |"
                  for code, rule in _rules().items() if room_of(rule) == room]  # fmt: skip
        lines += [""]
    return "\n".join(lines)


def rules_short() -> str:
    """One row for each room: its codes and the names of its faults. The README holds a copy that a test compares."""
    lines = ["| codes | where | what can be wrong |", "|---|---|---|"]
    for room, title in ROOMS.items():
        mine = [(code, rule) for code, rule in _rules().items() if room_of(rule) == room]
        names = ", ".join(rule.name.replace("-", " ") for _, rule in mine)
        codes = mine[0][0] if len(mine) == 1 else f"{mine[0][0]} to {mine[-1][0]}"
        lines.append(f"| {codes} | {title.lower()} | {names} |")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------ numbers of a loss


def level(classes: str, digits: str, *printed: str) -> str:
    """A heading with ln K as a log would print it, and what `unstuck value` says of that number.

    `printed`: more digits for the call, where so few say nothing.
    """
    k = int(classes)
    shown = f"{math.log(k):.{int(digits)}f}"
    asked = f"{math.log(k):.{int(printed[0])}f}" if printed else shown
    return f"## {shown}: ln {k} {{ #ln-{k} }}\n\n{value(asked)}"


def value(*arguments: str) -> str:
    """What `unstuck value ...` prints."""
    return f"```text\n$ unstuck value {' '.join(arguments)}\n{run('value', *arguments).rstrip()}\n```"


def run(*arguments: str) -> str:
    """Standard output of one of our verbs, in this process."""
    from typer.testing import CliRunner

    from unstuck.cli import app

    outcome = CliRunner().invoke(app(), list(arguments), env={"COLUMNS": "80", "NO_COLOR": "1"})
    if outcome.exit_code not in (0, 11, 12):
        raise ValueError(f"unstuck {' '.join(arguments)} ended with {outcome.exit_code}: {outcome.output}")
    return outcome.stdout


def levels(*classes: str) -> str:
    """ln K for these K, one row each, with a link to its section."""
    rows = ["| your loss | is ln K for | a fair guess among |", "|---|---|---|"]
    for text in classes:
        k = int(text)
        rows.append(f"| [{math.log(k):.4f}](#ln-{k}) | K = {k:,} | {k:,} classes |")
    return "\n".join(rows)


def other_levels(*classes: str) -> str:
    """ln K for K that have no section of their own."""
    pairs = [(int(text), math.log(int(text))) for text in classes]
    return "\n".join(["| K | ln K |", "|---|---|", *(f"| {k:,} | {x:.4f} |" for k, x in pairs)])


def vocabularies() -> str:
    """ln V of the vocabularies that the look-up knows."""
    from unstuck.theory import lookup

    return other_levels(*map(str, lookup.VOCABULARIES))


# --------------------------------------------------------------------------------------------------- from the source


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"unstuck.{name}")


def constants(module: str, *names: str) -> str:
    """Constants of a module with their values."""
    loaded = _module(module)
    lines = inspect.getsource(loaded)
    rows = []
    for name in names:
        comment = re.search(rf"(?m)^{name} = [^#\n]*#\s*(.+)$", lines)
        said = prose(comment[1]) if comment else ""
        rows.append(f"| `{name}` | {_as_code(repr(getattr(loaded, name)))} | {said} |")
    return "\n".join([f"| in `unstuck.{module}` | value | the comment beside it |", "|---|---|---|", *rows])


def source(path: str, *names: str) -> str:
    """The source of these functions (or assignments) of a file under src/unstuck/, as it stands there."""
    text = (SOURCE / path).read_text(encoding="utf-8")
    parts = []
    for name in names:
        nodes = [n for n in ast.parse(text).body if getattr(n, "name", None) == name or name in _targets(n)]
        if not nodes:
            raise ValueError(f"{path} has no {name!r}")
        parts.append(ast.get_source_segment(text, nodes[0]) or "")
    gap = "\n\n\n" if any("\n" in part for part in parts) else "\n"
    return f'```{{ .python .source title="src/unstuck/{path}" }}\n{gap.join(parts)}\n```'


def _targets(node: ast.stmt) -> list[str]:
    return [t.id for t in node.targets if isinstance(t, ast.Name)] if isinstance(node, ast.Assign) else []


def docstring(path: str) -> str:
    """The docstring of a file under src/unstuck/, in quotation marks, as code."""
    text = ast.get_docstring(ast.parse((SOURCE / path).read_text(encoding="utf-8"))) or ""
    return f'```{{ .text .source title="src/unstuck/{path}" }}\n{text}\n```'


def file(path: str) -> str:
    """A whole script of this repository."""
    return f'```{{ .python .source title="{path}" }}\n{(REPO / path).read_text(encoding="utf-8").rstrip()}\n```'


def channels() -> str:
    """What a trace can hold."""
    from unstuck.trace.channels import FACTS, SERIES

    rows = [f"| `{c.name}` | {c.unit} | {c.shape} | {c.cost} | {prose(c.meaning)} |" for c in (*SERIES, *FACTS)]
    return "\n".join(["| channel | unit | one for each | looked at | meaning |", "|---|---|---|---|---|", *rows])


def signature(module: str, name: str) -> str:
    """A function's signature and docstring."""
    thing = getattr(_module(module), name)
    words = inspect.cleandoc(thing.__doc__ or "")
    return f"```{{ .text .source }}\n{name}{inspect.signature(thing)}\n\n{words}\n```"


# ----------------------------------------------------------------------------------------------------- measurements


@cache
def _detection() -> str:
    return (DOCS / "detection.md").read_text(encoding="utf-8")


def detection() -> str:
    """The closing figures of docs/detection.md: power, two faults, false causes."""
    closing = [line for line in _detection().splitlines() if line and line[0].isupper() and ":" in line]
    wanted = [line for line in closing if re.match(r"(Sick|Programs with two|Healthy)", line)]
    if len(wanted) != 3:
        raise ValueError("docs/detection.md does not end with the three figures: write it with benchmarks/detection.py --table")
    return "\n".join(f"- {line}" for line in wanted)


def detection_rows() -> dict[str, list[str]]:
    """The rows of the table in docs/detection.md by code, without the code."""
    rows = {}
    for line in _detection().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and re.fullmatch(r"[A-Z]\d{3}", cells[0]):
            rows[cells[0]] = cells[1:]
    return rows


def detection_header() -> list[str]:
    """The names of the columns, without the code."""
    line = next(line for line in _detection().splitlines() if line.startswith("| code |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def measured_for(code: str) -> str:
    """What the benchmark says about one rule, in sentences."""
    row = detection_rows().get(code)
    if row is None:
        return "Not measured: no random program of the benchmark has this fault. [The others](../detection.md)."
    told = dict(zip(detection_header(), row))
    power = told["power [95 %]"].replace("[", "(").replace("]", ")")
    text = (
        f"Of {told['runs']} random programs with this fault, {told['hurt']} were hurt by it. In {told['first']} of these the "
        f"report named it first and as the cause (share and 95 % interval: {power}); in {told['named']} it was named at all. "
    )
    instead = told.get("instead", "")
    text += f"Said first instead: {instead}. " if instead else ""
    text += f"Healthy programs that were told to have it as the cause: {told['false causes']}. [The whole table](../detection.md)."
    return linked(text)


def lowest_power(most: str = "0.7") -> str:
    """The rules whose measured share of right first answers is below `most`."""
    rows = []
    for code, row in detection_rows().items():
        told = dict(zip(detection_header(), row))
        share = float(told["power [95 %]"].split()[0])
        if share < float(most):
            link, name = f"[{code}](rules/{code}.md)", _rules()[code].name
            rows.append(f"| {link} | {name} | {told['first']} of {told['hurt']} | {told['named']} |")
    return "\n".join(["| code | name | right first | named at all |", "|---|---|---|---|", *rows])


def overhead() -> str:
    """The table of docs/overhead.json, written by benchmarks/overhead.py --json."""
    told = json.loads((DOCS / "overhead.json").read_text(encoding="utf-8"))
    rows = [
        "| model | one step without, ms | with / without: median (quartiles) | without / without: the noise | the first 3 steps |",
        "|---|---|---|---|---|",
    ]
    for row in told["rows"]:
        low, middle, high = row["ratio"]
        calm = row["noise"]
        rows.append(
            f"| {row['name']} | {row['ms_per_step']:.2f} | **{middle:.3f}** ({low:.3f} to {high:.3f}) | "
            f"{calm[1]:.3f} ({calm[0]:.3f} to {calm[2]:.3f}) | {row['first_steps']:.1f} times a usual step |"
        )
    return "\n".join(rows) + (
        f"\n\ntorch {told['torch']}, Python {told['python']}, {told['processor']}, {told['threads']} thread, CPU time, "
        f"{told['rounds']} rounds."
    )


# ----------------------------------------------------------------------------------------------------- command line


@cache
def command_tree() -> Any:
    """The command as typer builds it."""
    import typer

    from unstuck.cli import app

    return typer.main.get_command(app())


def verbs() -> dict[str, Any]:
    """Every command by its words: 'run', 'demo neuron', ..."""
    found = {}
    for name, command in command_tree().commands.items():
        below = getattr(command, "commands", None)
        found |= {f"{name} {inner}": c for inner, c in below.items()} if below else {name: command}
    return found


def cli_page() -> str:
    """The reference of the command line, from the same declarations as `--help`."""
    lines = ["# Command line", "", "Made from the program: the same words as `unstuck VERB --help`.", ""]
    lines += ["| verb | what it does |", "|---|---|"]
    lines += [f"| [`unstuck {name}`](#{_anchor(name)}) | {prose(_first(c.help))} |" for name, c in verbs().items()]
    lines += ["", "After each command the next useful one is printed. [Exit codes and JSON](formats.md).", ""]
    for name, command in verbs().items():
        lines += [f"## unstuck {name} {{ #{_anchor(name)} }}", "", prose(inspect.cleandoc(command.help or "")), ""]
        arguments = [p for p in command.params if type(p).__name__.endswith("Argument")]
        options = [p for p in command.params if not type(p).__name__.endswith("Argument") and not p.hidden]
        words = " ".join(_metavar(p) for p in arguments)
        lines += ["```text", f"unstuck {name} [options] {words}".rstrip(), "```", ""]
        lines += [f"- `{_metavar(p)}`: {prose(p.help or '')}" for p in arguments] + [""]
        if options:
            lines += ["| option | value | meaning |", "|---|---|---|"]
            lines += [f"| {', '.join(f'`{o}`' for o in sorted(p.opts, key=len, reverse=True))} | {_cell(_metavar(p))} | "
                      f"{prose(p.help or '')}{_default(p)} |" for p in options]  # fmt: skip
            lines += [""]
    return "\n".join(lines)


def _anchor(name: str) -> str:
    return f"unstuck-{name.replace(' ', '-')}"


def _first(text: str | None) -> str:
    return re.split(r"(?<=\.)\s", inspect.cleandoc(text or ""))[0]


def _metavar(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return ""
    return parameter.metavar or parameter.name.upper()


def _cell(text: str) -> str:
    return f"`{text}`" if text else ""  # between backticks a bar does not end the cell


def _default(parameter: Any) -> str:
    value = parameter.default
    return f" Default: `{value}`." if isinstance(value, (int, float, str)) and not isinstance(value, bool) and value else ""


# ------------------------------------------------------------------------------------------------------- notebooks


def notebooks() -> list[Path]:
    """The notebooks in the order in which they are read."""
    return sorted((DOCS / "notebooks").glob("*.ipynb"))


def notebook_page(path: Path, *, run: bool = False) -> str:
    """A notebook as a page: its text and code, and with `run` what its cells print (the file itself holds no output)."""
    told = executed(path) if run else json.loads(path.read_text(encoding="utf-8"))
    parts = []
    for cell in told["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(re.sub(r"\]\(([\w/]+)\.ipynb\)", r"](\1.md)", text))
            continue
        parts.append(f"```{{ .python .source }}\n{text}\n```")
        said = "".join(_output(o) for o in cell.get("outputs", [])).rstrip()
        if said:
            parts.append(f"```text\n{said}\n```")
    title, rest = parts[0].split("\n", 1) if "\n" in parts[0] else (parts[0], "")
    note = f"This page is a notebook: [{path.name}]({path.name}) runs in Jupyter as it is."
    return "\n\n".join([title, note, rest, *parts[1:]]) + "\n"


def executed(path: Path) -> dict[str, Any]:
    """The notebook with its output, run from top to bottom in a folder of its own. Raises what a failing cell raises."""
    import nbformat
    from nbclient import NotebookClient

    first = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = os.environ | {"PATH": first, "COLUMNS": "80", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}})
        client.execute(env=environment)
    return notebook


def _output(output: dict[str, Any]) -> str:
    """What a cell printed, without colours and without the empty lines that a terminal's line ends leave."""
    plain = output.get("data", {}).get("text/plain", "")
    text = re.sub(r"\x1b\[[0-9;]*m", "", "".join(output.get("text", plain))).replace("\r\n", "\n")
    return re.sub(r"\n{3,}", "\n\n", text)


# -------------------------------------------------------------------------------------------------------- formulas

LONG = 50  # characters of TeX: wider than a phone
_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.S)
_BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.S)


def _spaced(drawn: str) -> str:
    """A thin space behind a logarithm whose argument has no bracket."""
    return re.sub(r"(<mi>ln</mi>)(?!<m[or][^>]*>(?:<mo[^>]*>)?&#x00028;)", r'\1<mspace width="0.17em" />', drawn)


def formulas(page: str) -> str:
    """TeX between dollars -> MathML, which browsers draw by themselves: no script and no font has to be loaded."""
    from latex2mathml.converter import convert

    def drawn(display: str) -> Callable[[re.Match[str]], str]:
        return lambda found: _spaced(convert(html.unescape(found[1]).strip(), display=display))

    page = _BLOCK.sub(lambda m: f'<div class="formula" tabindex="0">{drawn("block")(m)}</div>', page)
    inline = drawn("inline")

    def within(found: re.Match[str]) -> str:
        """A long one may leave its line on a narrow screen, and scroll."""
        return f'<span class="long">{inline(found)}</span>' if len(found[1]) > LONG else inline(found)

    return _INLINE.sub(within, page)


DIRECTIVES: dict[str, Callable[..., str]] = {
    function.__name__: function
    for function in (
        channels, constants, detection, docstring, file, level, levels, lowest_power, other_levels, overhead, rules_short,
        signature, source, value, vocabularies,
    )
}  # fmt: skip


def renewed(readme: str) -> str:
    """The README with its copies of generated parts as they are now."""
    return MADE.sub(lambda m: f"{m[1]}{DIRECTIVES[m[2]]()}{m[3]}", readme)


if __name__ == "__main__":
    readme = REPO / "README.md"
    readme.write_text(renewed(readme.read_text(encoding="utf-8")), encoding="utf-8")
