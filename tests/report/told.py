"""One diagnosis that says everything a report can say, without a time, a path or a number of this machine; and a hostile one."""

from __future__ import annotations

from typing import Any

import msgspec

from unstuck.findings import (
    Diagnosis,
    Evidence,
    Excluded,
    Finding,
    Fix,
    Intervention,
    NotChecked,
    Symptom,
    Training,
    Verdict,
)
from unstuck.report import Entry
from unstuck.trace.facts import Raised, Run, Site

SOFTMAX = Site("src/model.py", 22, "return F.softmax(self.fc2(x), dim=1)", "forward")
DIFF = """--- src/model.py
+++ src/model.py
@@ -19,4 +19,4 @@
         x = self.pool(F.relu(self.conv2(x)))
         x = x.flatten(1)
         x = self.dropout(F.relu(self.fc1(x)))
-        return F.softmax(self.fc2(x), dim=1)
+        return self.fc2(x)
"""
CATALOGUE = {
    "W101": Entry(
        "softmax-twice", "wiring",
        "A softmax runs before a loss that applies softmax itself.\n\n## What it means\nThe cross-entropy takes logits.\n\n"
        "## Fix\nReturn the raw logits: `return self.fc(x)`.",
    ),
    "I604": Entry("saturated-units", "init", "Units are saturated.\n\n## What it means\nThey pass no gradient.\n"),
    "U404": Entry("step-never-called", "update", "The optimizer never steps.\n\n## What it means\nNothing moves.\n"),
}  # fmt: skip


def diagnosis() -> Diagnosis:
    """Two trainings: one stuck for a certain, proven cause, with a finding of every role beside it; one that learns."""
    cause = Finding(
        "W101", "softmax-twice", "certain",
        "Softmax is applied twice: the model returns probabilities and the cross-entropy expects raw logits.",
        role="cause",
        evidence=[
            Evidence("The graph has a Softmax under the LogSoftmax of the loss, with only views between them."),
            Evidence("With 5 classes the loss of a softmax of a softmax cannot fall below ln(e+4)-1 = 0.9048 nats.", 0.9048, "nats",
                     "values"),
        ],
        locations=[SOFTMAX, Site("src/train.py", 41, "loss = criterion(model(x), y)  # [batch, 5]", "train")],
        explains=["I603"], floor=0.9048,
        fix=Fix("Remove the softmax from the model's output.", "safe", DIFF, Intervention("remove-softmax")),
        verdict=Verdict(
            "supported", "reaches 0.213 nats after 400 steps; unchanged it stays at 1.609 nats", 1.609, 0.213, 0.0, 0.868,
            [0.84, 0.89], 5, 400, "rerun", 31.5, 0.0,
            {"steps": [1.0, 200.0, 400.0], "control": [1.612, 1.61, 1.609], "fixed": [1.612, 0.7, 0.213]},
        ),
    )  # fmt: skip
    likely = Finding(
        "S502", "learning-rate-too-low", "likely", "The steps are too short: all 600 together can win 0.0056 nats.", role="latent",
        evidence=[Evidence("The first-order decrease of all steps together is 0.0056 nats.", 0.0056, "nats", "statistics")],
        locations=[Site("src/train.py", 26, "optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.5)")],
        fix=Fix("Try 2, a hundred times the learning rate."),
        separating="Train with the learning rate times 10 and times 100, everything else as it is.",
        verdict=Verdict("inconclusive", "the seeds disagree", 1.608, 1.699, 0.001, -0.038, [-0.28, 0.44], 5, 87, "rerun", 20.3),
    )  # fmt: skip
    follows = Finding(
        "I603", "dead-relus", "possible", "Of the units of a ReLU layer 61% are 0 for every sample.", role="consequence",
        evidence=[Evidence("39 of 64 units were 0 for all 64 samples.", 39.0, "units", "probe")],
        locations=[Site("src/model.py", 20)],
    )  # fmt: skip
    note = Finding("W116", "log-softmax-twice", "certain", "Log-softmax is applied twice, which changes nothing.", role="note")
    stuck = Training(
        Symptom(
            "at-chance", 12, 1.6089, 1.6094379124341003, 1.6021, None, 5, 0.0003, [-0.002, 0.003], 0.21, 0.2049,
            [0.0, 1.0, None, 0.0, 0.0], [0.004, 0.99, 0.002, 0.002, 0.002], "cross-entropy",
            "the loss, 1.609, is no better than a uniform guess",
        ),
        [cause, likely, follows, note],
        [Excluded("U401", "the optimizer holds all 8 tensors that the loss reaches"),
         Excluded("S501", "trust ratio 0.9 to 1.1 over 12 probes")],
        [NotChecked("I604", "no channel: layers (the graph was compiled)"),
         NotChecked("G303", "no channel: layers (the graph was compiled)")],
        "DigitNet", 600,
    )  # fmt: skip
    learns = Training(
        Symptom("learning", 40, 0.21, 0.6931471805599453, 0.65, None, 2, 0.44, [0.42, 0.46], 0.93,
                loss_kind="binary cross-entropy"),
        [], [Excluded("U401", "the optimizer holds all 4 tensors that the loss reaches")], [], "Gate", 600,
    )  # fmt: skip
    run = Run(
        "train.py", ["--epochs", "3", "--name", "a b"], python="3.12.1", framework="torch 2.9.0", seconds=12.5, own_seconds=0.25,
        probe_seconds=0.1, thorough_seconds=0.25, thorough_steps=34.0, exit="0",
        notes=["23 re-runs of up to 400 steps in 31 s"], own_errors=["ValueError: a bug of ours (torch_probes.py:12)"],
    )  # fmt: skip
    return Diagnosis(run, [stuck, learns], ".unstuck/20260101-120000")


# What a training may hold that acts on whoever shows it. Each has a word by which it is found again.
HOSTILE = {
    "html": "<script>alert('html')</script><img src=x onerror=alert(1)>",
    "markup": "**bold** _it_ `code` ```fence``` ~~gone~~ # head > quote | bar | [link](http://evil.example) ![i](x) $x^2$",
    "links": "@someone and #123 and GH-77 and https://evil.example/a and www.evil.example and :tada: owner/repo#5 mail@x.example",
    "control": "bell\x07 escape\x1b[2J\x1b]0;title\x07 nul\x00 back\x08 c1\x9b31m del\x7f",
    "bidirectional": "safe\u202eevil\u2066 \u200f end",
    "separators": "line\u2028paragraph\u2029next\u0085vertical\x0bfeed\x0c",
    "surrogate": "bytes\udcff\ud800 \ufffe",
    "breaks": "first\nsecond\r\nthird\ttab",
    "closing": "]]> --> </details> </summary> <!-- &amp; &lt; {0} {name} \\ \"quoted\" 'single' 100%",
    "wide": "a/very/long/path/" + "x" * 200 + "/" + "部分" * 30 + "/model.py",
}


def hostile() -> Diagnosis:
    """The same, with every text of the training replaced by something that wants to be more than text."""
    evil = list(HOSTILE.values())
    told = diagnosis()
    told.run.script, told.run.arguments = HOSTILE["html"] + HOSTILE["control"], evil
    told.run.framework = told.run.python = HOSTILE["markup"]
    told.run.notes, told.run.own_errors = evil, evil
    told.run.exceptions = [Raised(HOSTILE["html"], HOSTILE["control"], "script")]
    told.trace = HOSTILE["html"] + " " + HOSTILE["control"]
    for training in told.trainings:
        training.name = "".join(evil)
        training.symptom.reason, training.symptom.loss_kind = HOSTILE["links"], HOSTILE["markup"]
        training.excluded = [Excluded("U401", text) for text in evil]
        training.not_checked = [NotChecked(f"I60{i}", text) for i, text in enumerate(evil)]
        training.findings = [_hostile(f, evil) for f in training.findings]
    return told


def _hostile(finding: Finding, evil: list[str]) -> Finding:
    changes: dict[str, Any] = {
        "summary": " ".join(evil), "separating": HOSTILE["closing"], "evidence": [Evidence(text) for text in evil],
        "locations": [Site(HOSTILE["html"] + HOSTILE["wide"], 3, text) for text in evil],
    }  # fmt: skip
    changed = msgspec.structs.replace(finding, **changes)
    if finding.fix is not None:
        rows = "".join(f"-{text}\n+{text}!\n" for text in evil if "\n" not in text)
        head = f"--- a.py\n+++ a.py\n@@ -1,{len(evil) - 1} +1,{len(evil) - 1} @@\n"
        changed.fix = msgspec.structs.replace(finding.fix, summary=HOSTILE["markup"], diff=head + rows)
    if finding.verdict is not None:
        changed.verdict = msgspec.structs.replace(finding.verdict, reason=HOSTILE["html"])
    return changed
