"""Each kind of edit on small programs; what must stay as it is, stays to the byte; what must not be touched, is not."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import stat
import sysconfig
import time
import warnings
from pathlib import Path

import pytest

from unstuck.errors import UsageError
from unstuck.findings import Diagnosis, Finding, Fix, Intervention, Symptom, Training
from unstuck.repair import Bench, Change, change, fill, write
from unstuck.repair.edits import EDITS
from unstuck.repair.source import Source, lines_of
from unstuck.trace.facts import Run, Site

HEAD = "import torch\nimport torch.nn as nn, torch.nn.functional as F\nfrom torch.utils.data import DataLoader\n"
MARK = "# <-"


def run_of(folder: Path, *files: Path) -> Run:
    sources = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    return Run(script=files[0].name if files else "train.py", directory=str(folder), started=time.time() + 5, sources=sources)


def finding_of(kind: str, arguments: dict | None = None, *places: tuple[str, int], code: str = "X000") -> Finding:
    return Finding(
        code, "a-fault", "certain", "It is wrong.", locations=[Site(f, n) for f, n in places],
        fix=Fix("Mend it.", intervention=Intervention(kind, arguments or {})),
    )  # fmt: skip


def made(folder: Path, text: str, kind: str, arguments: dict | None = None, places: list[int] | None = None) -> Change:
    """The change for the lines with the mark (in the order of the file), or for the lines given."""
    file = folder / "train.py"
    file.write_bytes(text.encode())
    lines = places or [n for n, row in enumerate(text.splitlines(), 1) if MARK in row]
    done = change(finding_of(kind, arguments, *(("train.py", n) for n in lines)), run_of(folder, file))
    assert done is not None
    return done


CASES = [
    (*head.split(" ", 1), before, *after.split("\n", 1))
    for case in (Path(__file__).parent / "edits.txt").read_text().split("\n=== ")[1:]
    for head, rest in [case.split("\n", 1)]
    for before, after in [rest.split("\n--- ")]
]


@pytest.mark.parametrize(
    ("kind", "arguments", "before", "applicability", "after"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)]
)
def test_the_edit(tmp_path: Path, kind: str, arguments: str, before: str, applicability: str, after: str) -> None:
    done = made(tmp_path, f"{HEAD}{before}\n", kind, json.loads(arguments))
    assert (done.new_source.decode().rstrip("\n"), done.applicability) == (f"{HEAD}{after}".rstrip("\n"), applicability), done.note


def test_an_import_is_extended_where_nothing_else_leads_to_the_name(tmp_path: Path) -> None:
    done = made(tmp_path, "from torch.optim import SGD as S\no = S(ps, lr=1)  # <-\n", "adaptive-optimizer")
    assert "SGD" in done.note  # the alias hides what it is
    done = made(tmp_path, "from torch.nn import (\n    Linear,\n    NLLLoss,\n)\nc = NLLLoss()  # <-\n", "insert-activation")
    assert done.new_source.decode() == (
        "from torch.nn import (\n    Linear,\n    NLLLoss, CrossEntropyLoss,\n)\nc = CrossEntropyLoss()  # <-\n"
    )
    done = made(tmp_path, "from mine import NLLLoss\nc = NLLLoss()  # <-\n", "insert-activation")
    assert "not imported" in done.note


def test_every_edit_is_tried_here() -> None:
    assert {case[0] for case in CASES} == set(EDITS)


@pytest.mark.parametrize(
    ("kind", "arguments", "text", "reason"),
    [
        ("scale-learning-rate", {"factor": 10},
         'p.add_argument("--lr", type=float, default=1e-6)\no = torch.optim.SGD(ps, lr=args.lr)  # <-', "option --lr"),
        ("scale-learning-rate", {"factor": 10}, "lr = 1\nlr = lr / 2\no = torch.optim.SGD(ps, lr=lr)  # <-", "2 places"),
        ("scale-learning-rate", {"factor": 10}, "from settings import LR\no = torch.optim.SGD(ps, lr=LR)  # <-", "another file"),
        ("scale-learning-rate", {}, "o = torch.optim.SGD(ps, lr=1)  # <-", "factor is not known"),
        ("remove-activation", {"activation": "relu"},
         "def block(a, b):\n    return [nn.Linear(a, b), nn.ReLU()]  # <-\n\n\nls = block(1, 2) + block(2, 3)", "several layers"),
        ("remove-activation", {"activation": "relu"},
         "def forward(self, x):\n    for l in self.ls:\n        x = torch.relu(l(x))  # <-\n    return x", "loop"),
        ("remove-activation", {"activation": "softmax"}, "y = g(x)  # <-", "no activation"),
        ("shuffle", {}, "for i in range(0, n, 32):\n    x = X[i:i + 32]  # <-", "randperm"),
        ("shuffle", {}, "d = DataLoader(s, sampler=w)  # <-", "sampler"),
        ("zero-before-backward", {}, "def f(l):\n    l.backward()  # <-", "no step"),
        ("call-step", {}, "for i in d:\n    f(i).backward()  # <-\n    if i % 99 == 98:\n        opt.step()", "not reached"),
        ("call-step", {}, "def f(l):\n    l.backward()  # <-", "name of the optimizer"),
        ("replace-loss", {"loss": "cross_entropy", "from": "mse_loss"},
         "l = F.mse_loss(out.squeeze(1), y.float())  # <-", "one number per sample"),
        ("add-parameters", {}, "o = torch.optim.Adam(groups, lr=1)  # <-", "has to be seen"),
        ("reinitialise", {}, "nn.init.zeros_(a.weight)\nnn.init.zeros_(b.weight)\nl = nn.Linear(1, 1)  # <-", "several lines"),
        ("reattach", {}, "p = np.clip(p.detach().numpy(), 0, 1)  # <-", "another way"),
        ("set-dropout", {"p": 0.1}, "d = nn.TransformerEncoderLayer(8, 2, dropout=0.0)  # <-", "no dropout"),
        ("shift-labels", {"offset": 1}, "x = 1  # <-", "by hand"),
        ("set-learning-rate", {"lr": 0.1}, "x = 1  # <-", "no optimizer"),
    ],
)  # fmt: skip
def test_where_a_machine_would_have_to_guess_it_says_why(
    tmp_path: Path, kind: str, arguments: dict, text: str, reason: str
) -> None:
    done = made(tmp_path, f"{HEAD}{text}\n", kind, arguments)
    assert (done.applicability, done.diff, done.new_source) == ("display", "", b"")
    assert reason in done.note
    assert done.note.endswith(".")


@pytest.mark.parametrize("kind", sorted(EDITS))
@pytest.mark.parametrize(
    "text", ["x = 1  # <-\n", "def f(:  # <-\n", "f'{g(x)}'  # <-\n", "\n", "class A:  # <-\n    pass\n", "lambda: 0  # <-"]
)
def test_no_edit_breaks_on_a_line_without_its_subject(tmp_path: Path, kind: str, text: str) -> None:
    done = made(
        tmp_path, text, kind, {"dim": 1, "factor": 2.0, "lr": 0.1, "p": 0.1, "norm": 1.0, "width": 3, "weights": [1, 2]}, [1]
    )
    assert done.applicability == "display"
    assert done.note


# ---------------------------------------------------------------------- to the byte

ODD = (
    "class Net:\n\tdef forward(self, x):  # tabs\n\t\tx = self.fc( x )   ;   y = 1\n"
    "\x0c\n\t\treturn F.softmax(x, dim=1) # <-\n\ts = 'a\\z'  \n"
)


@pytest.mark.parametrize(
    ("newline", "encoding"),
    [(n, e) for n in ("\n", "\r\n") for e in ("utf-8", "utf-8-sig", "latin-1", "cp1252")] + [("\r", "utf-8")],
)
@pytest.mark.parametrize("end", ["", "\n", "  # the end"])
def test_every_other_byte_stays(tmp_path: Path, newline: str, encoding: str, end: str) -> None:
    declared = "" if encoding.startswith("utf") else f"# -*- coding: {encoding} -*-\n"
    text = (declared + HEAD + "name = 'Grüße'  # é\n" + ODD + "last = 'ü'" + end).replace("\n", newline)
    file = tmp_path / "net.py"
    file.write_bytes(text.encode(encoding))
    line = next(n for n, row in enumerate(lines_of(text), 1) if "<-" in row)
    done = change(finding_of("remove-activation", {"activation": "softmax"}, ("net.py", line)), run_of(tmp_path, file))
    assert done is not None
    assert done.new_source == text.replace("F.softmax(x, dim=1)", "x").encode(encoding), done.note
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the odd string
        compile(done.new_source, "net.py", "exec")


def test_lines_that_are_not_in_the_diff_are_untouched_and_patch_could_apply_it(tmp_path: Path) -> None:
    text = HEAD + "for x in d:\n    a = 1\n\n    l.backward()  # <-\n    opt.step()"
    done = made(tmp_path, text, "zero-before-backward")
    assert done.diff.startswith("--- train.py\n+++ train.py\n@@ ")
    added = [row for row in done.diff.splitlines()[2:] if row.startswith("+")]
    removed = [row for row in done.diff.splitlines()[2:] if row.startswith("-")]
    assert (added, removed) == (["+    opt.zero_grad()"], [])
    assert "\\ No newline at end of file" in done.diff
    rows = done.new_source.decode().split("\n")
    rows.remove("    opt.zero_grad()")
    assert "\n".join(rows) == text


def test_a_mixture_of_newlines_stays_a_mixture(tmp_path: Path) -> None:
    text = HEAD.replace("\n", "\r\n") + "for x in d:\n    l.backward()\r\n    opt.step()\n"
    done = made(tmp_path, text, "zero-before-backward", places=[5])
    assert done.new_source.decode() == text.replace("    l.back", "    opt.zero_grad()\r\n    l.back")


def test_a_file_that_cannot_be_read_exactly_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_bytes(b"x = '\xff'\n")
    done = change(finding_of("remove-activation", {}, ("train.py", 1)), run_of(tmp_path, file))
    assert done is not None and done.applicability == "display"
    assert "cannot be parsed" in done.note


# ---------------------------------------------------------------------- which files

SICK = HEAD + "def forward(x):\n    return F.softmax(x, dim=1)\n"


def asked(file: str = "train.py") -> Finding:
    return finding_of("remove-activation", {"activation": "softmax"}, (file, 5))


def test_a_file_that_changed_since_the_run_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_text(SICK)
    run = run_of(tmp_path, file)
    file.write_text(SICK + "# later\n")
    done = change(asked(), run)
    assert done is not None and done.stale and done.note == "train.py has changed since this run."


def test_a_file_that_changed_while_it_ran_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SICK)
    done = change(asked(), Run(script="train.py", directory=str(tmp_path), sources={"train.py": ""}))
    assert done is not None and done.stale and "while it ran" in done.note


def test_without_hashes_the_time_and_the_lines_decide(tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_text(SICK)
    run = Run(script="train.py", directory=str(tmp_path), started=time.time() + 5)
    finding = asked()
    finding.locations = [Site("train.py", 5, "return F.softmax(x, dim=1)")]
    done = change(finding, run)
    assert done is not None and done.applicability == "safe"
    finding.locations = [Site("train.py", 5, "return F.softmax(x, dim=0)")]
    done = change(finding, run)
    assert done is not None and done.stale
    run.started = time.time() - 100
    finding.locations = [Site("train.py", 5)]
    done = change(finding, run)
    assert done is not None and done.stale


@pytest.mark.parametrize("place", ["installed", "standard", "elsewhere", "read-only", "gone", "string"])
def test_files_that_are_not_the_users_to_change(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / ("lib/site-packages" if place == "installed" else "other" if place == "elsewhere" else "work")
    folder.mkdir(parents=True)
    file = folder / "train.py"
    file.write_text(SICK)
    run = run_of(tmp_path / "work" if place == "elsewhere" else tmp_path, file)
    run.script = "-m train"
    run.sources = {}
    name = str(file)
    if place == "read-only":
        file.chmod(0o444)
    if place == "gone":
        file.unlink()
    if place == "standard":
        name = str(Path(sysconfig.get_path("stdlib")) / "textwrap.py")
    if place == "string":
        name = "<string>"
    done = change(asked(name), run)
    assert done is not None and done.applicability == "display" and not done.diff
    words = {"installed": "installed package", "standard": "own library", "elsewhere": "outside", "read-only": "read-only",
             "gone": "not there any more", "string": "in no file"}  # fmt: skip
    assert words[place] in done.note


def test_a_finding_without_intervention_has_no_change(tmp_path: Path) -> None:
    finding = asked()
    finding.fix = Fix("Look at it.")
    assert change(finding, run_of(tmp_path)) is None
    finding.fix = Fix("", intervention=Intervention("placebo"))
    assert change(finding, run_of(tmp_path)) is None


# ---------------------------------------------------------------------- writing


def test_writing_keeps_the_mode_and_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_text(SICK)
    file.chmod(0o750)
    done = change(asked(), run_of(tmp_path, file))
    assert done is not None
    write(done)
    assert file.read_bytes() == done.new_source
    assert stat.S_IMODE(file.stat().st_mode) == 0o750
    assert os.listdir(tmp_path) == ["train.py"]


def test_a_link_stays_a_link_and_its_target_is_changed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real = tmp_path / "real" / "net.py"
    real.write_text(SICK)
    link = tmp_path / "train.py"
    link.symlink_to(real)
    done = change(asked(), run_of(tmp_path, link))
    assert done is not None
    write(done)
    assert link.is_symlink()
    assert "softmax" not in real.read_text()


def test_a_link_out_of_the_users_folders_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    (tmp_path / "away.py").write_text(SICK)
    (tmp_path / "work" / "train.py").symlink_to(tmp_path / "away.py")
    done = change(asked(), run_of(tmp_path / "work", tmp_path / "work" / "train.py"))
    assert done is not None and "outside" in done.note


def test_what_changed_in_between_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_text(SICK)
    done = change(asked(), run_of(tmp_path, file))
    assert done is not None
    file.write_text("# mine\n")
    with pytest.raises(UsageError, match="nothing was written"):
        write(done)
    assert file.read_text() == "# mine\n"


def test_a_write_that_fails_leaves_the_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "train.py"
    file.write_text(SICK)
    done = change(asked(), run_of(tmp_path, file))
    assert done is not None

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UsageError, match="No space left"):
        write(done)
    assert (file.read_text(), os.listdir(tmp_path)) == (SICK, ["train.py"])


def test_two_findings_change_one_file_one_after_another(tmp_path: Path) -> None:
    text = HEAD + "for x in d:\n    p = F.softmax(net(x), dim=1)\n    l = c(p)\n    l.backward()\n    opt.step()\n"
    file = tmp_path / "train.py"
    file.write_text(text)
    bench = Bench(run_of(tmp_path, file))
    loop = finding_of("zero-before-backward", {}, ("train.py", 7))
    first = bench.change(finding_of("call-step", {}, ("train.py", 7)))
    assert first is not None and "not reached" in first.note
    for finding in (
        loop,
        finding_of("remove-activation", {"activation": "softmax"}, ("train.py", 5)),
        finding_of("negate-loss", {}, ("train.py", 6)),
    ):
        done = bench.change(finding)
        assert done is not None and done.diff, done
        write(done)
        bench.keep(done)
    assert file.read_text() == text.replace("F.softmax(net(x), dim=1)", "net(x)").replace("= c(p)", "= -c(p)").replace(
        "    l.back", "    opt.zero_grad()\n    l.back"
    )
    again = bench.change(finding_of("remove-activation", {}, ("train.py", 5)))
    assert again is not None and "another fix has changed it" in again.note


def test_a_change_over_two_files_is_shown_not_made(tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_text(HEAD + "l = F.nll_loss(p, y)\n")
    arguments = {
        "loss": "cross_entropy",
        "from": "nll_loss",
        "activation": "softmax",
        "activation_file": "net.py",
        "activation_line": 3,
    }
    done = change(finding_of("replace-loss", arguments, ("train.py", 4)), run_of(tmp_path, file))
    assert done is not None and "two files" in done.note


# ---------------------------------------------------------------------- in the diagnosis


def test_the_diagnosis_gets_diff_and_applicability(tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_text(SICK)
    note, cause, other = asked(), asked(), asked("nowhere.py")
    note.role = "note"
    diagnosis = Diagnosis(run_of(tmp_path, file), [Training(Symptom("at-chance"), [cause, other, note])])
    fill(diagnosis)
    assert cause.fix is not None and cause.fix.applicability == "safe"
    assert cause.fix.diff is not None and "-    return F.softmax(x, dim=1)\n+    return x\n" in cause.fix.diff
    assert other.fix is not None and (other.fix.applicability, other.fix.diff) == ("display", None)
    assert note.fix is not None and note.fix.diff is None
    assert difflib.SequenceMatcher(None, file.read_text(), SICK).ratio() == 1


def test_a_fault_of_ours_costs_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "train.py"
    file.write_text(SICK)
    cause = asked()
    monkeypatch.setitem(EDITS, "remove-activation", lambda *_: 1 / 0)
    fill(Diagnosis(run_of(tmp_path, file), [Training(Symptom("at-chance"), [cause])]))
    assert cause.fix is not None and cause.fix.diff is None


def test_positions_count_characters_not_bytes() -> None:
    source = Source("x = 'äöü'; y = f(a)\n".encode())
    call = source.calls(1)[0]
    assert source.of(call) == "f(a)"
