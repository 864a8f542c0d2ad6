"""What every text format says in the same words: the state, the level of the loss, what a re-run showed, where a line is.

`visible` is the gate for all that comes from the training: class names, paths, source lines, messages of exceptions.
"""

from __future__ import annotations

import re
import shlex
import unicodedata

from unstuck.findings import Diagnosis, Finding, Symptom, Training, Verdict
from unstuck.trace.facts import Run, Site

HEADLINES = {
    "learning": "LEARNING",
    "at-chance": "STUCK AT CHANCE",
    "at-prior": "STUCK AT THE BASE RATE",
    "above-chance": "WORSE THAN GUESSING",
    "plateau": "PLATEAU",
    "constant": "CONSTANT LOSS",
    "diverging": "DIVERGING",
    "non-finite": "NOT A NUMBER",
    "slow": "SLOW",
    "too-early": "TOO EARLY TO SAY",
    "not-judged": "LEVEL NOT JUDGED",
    "no-training": "NO TRAINING SEEN",
}
SO_FAR = "AT CHANCE SO FAR"
# Role -> what a group of such findings is called, in the order in which they are shown; the causes stand before them.
OTHERS = {
    "latent": "Also a fault, not shown to hold this training back:",
    "consequence": "Follows from the cause:",
    "note": "Note:",
}
_STRUCTURAL = frozenset("WUG")  # wiring, update loop, gradient path: the letters of their codes
_VERDICTS = {"supported": "Verified", "refuted": "Refuted", "inconclusive": "Inconclusive"}
_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def visible(text: str, keep: str = "") -> str:
    r"""The text without characters that act on a terminal, a page or a parser: each becomes its escape, such as \x1b.

    Control characters (except those of `keep`), halves of surrogate pairs, line and paragraph separators, what is no
    character, and the marks that reverse the direction of writing (a source line could show something else than it says).
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or not _acts(c) else _escaped(c) for c in text)


def _acts(c: str) -> bool:
    return unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} or c in _BIDIRECTIONAL or (ord(c) & 0xFFFE) == 0xFFFE


def _escaped(c: str) -> str:
    code = ord(c)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def line(text: str) -> str:
    """Visible, and on one line: what separates words (also line ends and tabs) is one space."""
    return visible(re.sub(r"[ \t\r\n\f\v]+", " ", text).strip())


def code(text: str) -> str:
    """A source line, with tabs as four columns."""
    return visible(text.expandtabs(4).rstrip("\r\n"))


def headline(training: Training, failed: str = "") -> str:
    """The state in capitals. failed: the type of the exception that ended the script."""
    symptom = training.symptom
    if symptom.name in {"too-early", "no-training"} and failed:
        return line(f"ENDED BY {failed}")
    if (
        symptom.name == "too-early"
        and symptom.chance
        and symptom.loss is not None
        and abs(symptom.loss - symptom.chance) < 0.02 * symptom.chance
    ):
        return SO_FAR
    return HEADLINES.get(symptom.name, line(symptom.name.upper()))


def ended_by(diagnosis: Diagnosis) -> str:
    """The type of the exception that ended the script or was last seen in it; '' where there was none."""
    exceptions = diagnosis.run.exceptions
    return exceptions[-1].type if exceptions else ""


def level(symptom: Symptom) -> str:
    """The loss beside what guessing scores; '' where the loss is unknown or its level says nothing."""
    if symptom.loss is None or not symptom.judged:
        return ""
    kind = f" ({line(symptom.loss_kind)})" if symptom.loss_kind else ""
    last = symptom.name == "non-finite"  # the level is that of before
    parts = [f"The last finite loss{kind} was {symptom.loss:.4f} nats." if last else f"The loss{kind} is {symptom.loss:.4f} nats."]
    if symptom.chance is not None:
        parts.append(f"A uniform guess scores {chance(symptom)}" + (
            f", the base rates of the labels {symptom.base_rate:.4f}." if symptom.base_rate is not None else "."
        ))  # fmt: skip
    elif symptom.base_rate is not None:
        parts.append(f"Always answering the mean of the targets scores {symptom.base_rate:.4f}.")
    if symptom.accuracy is not None:
        parts.append(f"Accuracy on the training batches: {symptom.accuracy:.1%}.")
    if collapsed(symptom):
        parts.append(collapsed(symptom))
    return " ".join(parts)


def collapsed(symptom: Symptom) -> str:
    """Where a stuck training always gives the same answer, a sentence that says which; '' otherwise."""
    share = symptom.predicted_share
    if not (share and max(share) > 0.98 and len(share) > 1 and symptom.stuck):
        return ""
    return f"Nearly every prediction is class {share.index(max(share))} ({max(share):.0%})."


def chance(symptom: Symptom) -> str:
    """The chance level with its closed form, where it has one: 'ln 5 = 1.6094'."""
    from unstuck.engine import closed_form

    name = closed_form(symptom)
    return f"{name} = {symptom.chance:.4f}" if name else f"{symptom.chance:.4f}"


def because(symptom: Symptom) -> str:
    """Why this state was given, a sentence; '' where it learns or nothing was noted."""
    reason = line(symptom.reason).rstrip(".")
    return "" if symptom.learns or not reason else reason[0].upper() + reason[1:] + "."


def unknown(training: Training, run: Run) -> str:
    """What is to be said where a training is stuck and no cause was found; '' where that is not so.

    That all is wired correctly is said only where all of it was looked at.
    """
    if training.cause is not None or not (training.symptom.judged and training.symptom.stuck):
        return ""
    if run.framework == "log":
        return "Why, the numbers of a log cannot say: the training itself has to be looked at, with unstuck run."
    if any(f.verdict is not None and f.verdict.name == "refuted" for f in training.findings if f.role == "latent"):
        return "The cause is not known: what was suspected was mended in re-runs, and the training stayed as it is."
    unasked = [n for n in training.not_checked if n.code[:1] in _STRUCTURAL]
    if unasked:
        some = f"{len(unasked)} diagnoses of its structure" if len(unasked) > 1 else f"{unasked[0].code}"
        return f"No structural fault was found, but {some} could not be asked: {line(unasked[0].reason).rstrip('.')}."
    return "No structural fault was found: head, loss, gradient path and update loop are wired correctly."


def verdict(tried: Verdict) -> str:
    """One sentence: what running the fix showed, on how many seeds, and how sure that is."""
    reason = line(tried.reason).rstrip(".")
    if tried.name == "not-verified":
        return f"Not verified because {reason}."
    seen = f"{tried.seeds} seed" + ("s" if tried.seeds != 1 else "")
    if len(tried.interval) == 2:
        unit = "skill" if tried.skill_control is not None else "accuracy"
        seen += f", gain in {unit} {tried.interval[0]:.2f} to {tried.interval[1]:.2f}"
    return f"{_VERDICTS[tried.name]}: {reason} ({seen})."


def to_decide(finding: Finding) -> str:
    """The experiment that would decide, where none has; '' otherwise."""
    open_still = finding.verdict is None or finding.verdict.name in {"inconclusive", "not-verified"}
    return line(finding.separating) if open_still else ""


def place(site: Site) -> str:
    return line(f"{site.file}:{site.line}")


def script(diagnosis: Diagnosis) -> str:
    """What was run, with its arguments."""
    return line(" ".join([diagnosis.run.script, *map(shlex.quote, diagnosis.run.arguments)]))
