"""The HTML report without a browser: what it says, that nothing from the training is markup, and what is drawn."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unstuck.engine import diagnose
from unstuck.findings import Diagnosis, Evidence, Excluded, Finding, Fix, Intervention, NotChecked, Symptom, Training, Verdict
from unstuck.report import html
from unstuck.report.html import curves, network, words
from unstuck.report.html.page import page_of, trace_of
from unstuck.report.html.thinning import blocks, thin
from unstuck.report.json import document
from unstuck.rules import rules
from unstuck.trace import channels, synthetic
from unstuck.trace.facts import Facts, LabelStats, Layer, LayerLook, OpNode, Parameter, ParameterLook, Raised, Run, Site
from unstuck.trace.trace import RunRecord, Series, Trace

SOFTMAX = OpNode("softmax", "SoftmaxBackward0", [64, 5], dim=1, site=synthetic.site(41, "return softmax(x)"))
SMALL = "/* stands for the drawing code */"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Five megabytes of drawing code a page tell these tests nothing."""
    monkeypatch.setattr(html, "_plotly", lambda: SMALL)


def sick(**changes) -> Trace:
    return synthetic.training(synthetic.cross_entropy(SOFTMAX), state="at-chance", **changes)


def of(*traces, **run) -> Diagnosis:
    given = {"script": "train.py", "framework": "torch 2", "seconds": 2.0, "own_seconds": 0.1} | run
    return diagnose(RunRecord(Run(**given), list(traces)))


class Read(HTMLParser):
    """A page as its elements: (name, attributes) in order, the text outside of scripts and styles, and the scripts."""

    VOID = frozenset({"meta", "link", "br", "path", "input"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            self.scripts[-1] += data
        elif self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name in names]


def read(diagnosis: Diagnosis) -> Read:
    return Read(html.render(diagnosis))


# ---------------------------------------------------------------------------------------------------------------- thinning

MESSY = st.lists(st.one_of(st.floats(-5, 5), st.just(math.nan), st.just(math.inf)), min_size=1, max_size=120)


def slowly(steps, values, width):
    """The kept indices by the definition, entry by entry."""
    n = len(steps)
    if n <= 2 * width:
        return list(range(n))
    span = steps[-1] - steps[0]
    columns: dict[int, list[int]] = {}
    for i in range(n):
        if math.isfinite(values[i]):
            columns.setdefault(min(int((steps[i] - steps[0]) * (width / span)), width - 1), []).append(i)
    kept = {0, n - 1}
    for members in columns.values():
        kept.add(min(members, key=lambda i: (values[i], i)))
        kept.add(min(members, key=lambda i: (-values[i], i)))
    order = sorted(kept)
    for a, b in pairwise(order):
        gaps = [i for i in range(a + 1, b) if not math.isfinite(values[i])]
        if gaps and math.isfinite(values[a]) and math.isfinite(values[b]):
            kept.add(gaps[0])
    return sorted(kept)


@given(MESSY, st.integers(1, 12), st.integers(0, 3))
def test_thinning_keeps_what_its_definition_says(values, width, stride) -> None:
    steps = np.cumsum(1 + (np.arange(len(values)) * 7919 % (stride + 1)))
    x, y = thin(steps, values, width)
    kept = slowly(steps.tolist(), values, width)
    assert x.tolist() == steps[kept].tolist()
    np.testing.assert_array_equal(y, np.array(values)[kept])
    assert len(x) <= 4 * width + 3 or len(values) <= 2 * width


@given(MESSY, st.integers(1, 12))
def test_a_thinned_line_has_the_extremes_of_the_whole_and_is_broken_where_it_is(values, width) -> None:
    steps = np.arange(1, len(values) + 1)
    x, y = thin(steps, values, width)
    finite = np.array(values)[np.isfinite(values)]
    if len(finite):
        assert np.nanmin(np.where(np.isfinite(y), y, np.nan)) == finite.min()
        assert np.nanmax(np.where(np.isfinite(y), y, np.nan)) == finite.max()
    for a, b, first, second in zip(x, x[1:], y, y[1:]):
        between = np.array(values)[int(a) : int(b) - 1]
        if np.isfinite([first, second]).all():  # these two are joined by a line
            assert np.isfinite(between).all()


def test_one_spike_in_a_million_steps_is_kept() -> None:
    values = np.random.default_rng(0).normal(1.6, 0.01, 1_000_000)
    values[123_456], values[765_432] = 40.0, -3.0
    x, y = thin(np.arange(1_000_000), values, 2000)
    assert y[x == 123_456] == 40.0 and y[x == 765_432] == -3.0
    assert len(x) <= 4003
    assert (x[0], x[-1]) == (0, 999_999)


def test_thinning_refuses_what_is_no_series() -> None:
    with pytest.raises(ValueError, match="increase"):
        thin([1, 1], [0.0, 0.0], 5)
    with pytest.raises(ValueError, match="one length"):
        thin([1, 2], [0.0], 5)
    with pytest.raises(ValueError, match="width 0"):
        thin([1, 2], [0.0, 1.0], 0)
    assert thin([], [], 5)[0].tolist() == []


@given(MESSY, st.integers(1, 9))
def test_blocks_are_the_parts_of_the_series(values, count) -> None:
    parts = blocks(np.arange(len(values)), values, count)
    assert len(parts) == min(count, len(values))
    assert parts[0][0] == 0 and parts[-1][1] == len(values) - 1
    for first, last, low, mean, high in parts:
        mine = [v for v in values[int(first) : int(last) + 1] if math.isfinite(v)]
        if mine:
            assert (low, high) == (min(mine), max(mine))
            assert mean == pytest.approx(sum(mine) / len(mine))
        else:
            assert math.isnan(low) and math.isnan(mean) and math.isnan(high)


# -------------------------------------------------------------------------------------------------------- the record itself


def test_the_engine_keeps_what_it_worked_from_and_json_does_not_grow() -> None:
    diagnosis = of(synthetic.training(), sick())
    assert diagnosis.record is not None
    assert [t.name for t in diagnosis.trainings] == ["Net", "Net"]
    first = trace_of(diagnosis, diagnosis.worst)  # the worst began last
    assert first is diagnosis.record.traces[1]
    assert trace_of(diagnosis, diagnosis.trainings[1]) is diagnosis.record.traces[0]
    bare = msgspec.structs.replace(diagnosis, record=None)
    assert document(diagnosis) == document(bare)
    assert trace_of(bare, bare.worst) is None


def test_a_copy_keeps_trainings_and_traces_together() -> None:
    """The command line copies a diagnosis before it runs the fixes."""
    again = copy.deepcopy(of(synthetic.training(), sick()))
    assert again.record is not None
    assert trace_of(again, again.worst) is again.record.traces[1]


# -------------------------------------------------------------------------------------------------------------- what it says


def test_the_verdict_is_one_sentence_and_the_levels_have_names() -> None:
    diagnosis = of(sick())
    page = read(diagnosis)
    text = page.text
    assert "Stuck at chance — softmax is applied twice: the model returns probabilities and the cross-entropy expects" in text
    assert "1.6094 = ln 5: guessing" in text
    assert "0.9048: floor of W101" in text
    assert "what a network that only guesses among 5 classes scores" in text
    data = json.loads(page.scripts[0])["t0-loss"]
    assert [level["kind"] for level in data["levels"]] == ["chance", "base", "fault"]
    assert data["levels"][0]["y"] == pytest.approx(math.log(5))
    assert data["levels"][2]["y"] == pytest.approx(math.log(math.e + 4) - 1)
    low, high = data["range"]
    assert low < data["levels"][2]["y"] and high > max(data["y"])
    assert "model.py:41" in text and "return softmax(x)" in text
    assert "a fact of the program or of arithmetic" in text
    assert "unstuck explain W101" in text


@pytest.mark.parametrize("code", list(rules()))
def test_every_disease_makes_a_sound_page(code: str) -> None:
    page = read(of(rules()[code].sick(), synthetic.training()))
    assert code in page.text
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for anchor in page.all("a"):
        assert (anchor["href"] or "").startswith("#") and anchor["href"][1:] in ids
    for _, attributes in page.elements:
        assert attributes.get("aria-labelledby") in {None, *ids}
        assert not any(name.startswith("on") for name in attributes)
        assert not {"src", "srcset", "action", "formaction", "background"} & set(attributes)
    assert all(a["href"] == "data:," for a in page.all("link"))
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels)), levels
    assert all(a.get("scope") for a in page.all("th"))
    assert len(page.all("main")) == len(page.all("header")) == len(page.all("footer")) == len(page.all("nav")) == 1
    charts = json.loads(page.scripts[0])
    drawn = [a for a in page.all("div") if a.get("role") == "img"]
    assert {a["id"] for a in drawn} == set(charts)
    assert all(len(a["aria-label"] or "") > 40 for a in drawn)  # each picture is told in words


def test_only_our_two_scripts_may_run_and_the_policy_knows_them_by_hash() -> None:
    page = read(of(sick()))
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy") or ""
    data, *code = page.scripts
    assert json.loads(data)
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(c.encode()).digest()).decode()}'" for c in code]
    assert code[0] == SMALL and len(code) == 2
    assert f"script-src {' '.join(hashes)};" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe-eval" not in policy and "http" not in policy


def test_code_that_would_end_its_element_cannot() -> None:
    code = html._script("a = `</script><b>`; // <!-- \r\n")
    page = Read(f"<script>{code}</script>")
    assert [name for name, _ in page.elements] == ["script"]
    assert "<!--" not in page.scripts[0] and "\r" not in page.scripts[0]


@given(st.dictionaries(st.text(), st.lists(st.one_of(st.text(), st.floats(-5, 5), st.none()), max_size=4), max_size=4))
def test_embedded_data_comes_back_and_cannot_end_a_script(data) -> None:
    text = html.embed(data)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == data


HOSTILE = '</script><img src=x onerror="alert(1)"><svg onload=alert(2)>\'"&amp;{{7*7}}{% raw %}\u2028<!--'


def made_of(text: str) -> Diagnosis:
    """A diagnosis whose every string from a training is this one."""
    site = Site(text, 3, text, text)
    term = synthetic.cross_entropy(OpNode(f"op{text}", text, [64, 5], site=site, module=text))
    term.raw = term.hidden = text
    term.site, term.made, term.path_end = site, site, "hidden"
    look = LayerLook(5, rows=4, rms=1.0, spread=0.5, dead=0.5)
    facts = {
        "name": text,
        "layers": [Layer("linear", "input", units=3, site=site, module=text, parameters=[f"{text}.weight"], looks=[look]),
                   Layer(text, "output", units=3, site=site, module=text, looks=[look])],
        "parameters": [Parameter(f"{text}.weight", [3, 3], looks=[ParameterLook(5, 1.0, 0.1, 0.01)]),
                       Parameter(f"elsewhere{text}", [3], looks=[ParameterLook(5, 1.0, 0.1, 0.01)])],
        "exceptions": [Raised(text, text, "loss", site)],
    }  # fmt: skip
    trace = synthetic.training(term, state="at-chance", **facts)
    verdict = Verdict(
        "supported", text, control=1.6, fixed=0.2, skill_control=0.0, skill_fixed=0.9, interval=[0.8, 0.95], seeds=3, steps=9,
        how="rerun", seconds=3.0, placebo=0.0, curves={"steps": [1, 5, 9], "control": [1.6, 1.6, 1.6], "fixed": [1.6, 0.8, 0.2]},
    )  # fmt: skip
    diff = f"--- {text}\n+++ {text}\n@@ -1 +1 @@\n-{text}\n+{text}\n {text}\n"
    finding = Finding(
        "W999", text, "certain", f"{text}.", role="cause", evidence=[Evidence(text, source="values")], locations=[site] * 8,
        explains=[text], fix=Fix(text, "safe", diff, Intervention("remove")), floor=0.3, separating=text, verdict=verdict,
    )  # fmt: skip
    others = [msgspec.structs.replace(finding, role=role) for role in ("latent", "consequence", "note")]
    symptom = Symptom("at-chance", 3, 1.6, 1.6094, 1.6, None, 5, 0.0, [-0.1, 0.1], 0.2, 0.2, [0.2] * 5, [0.2] * 5, text, text)
    training = Training(symptom, [finding, *others], [Excluded(text, text)], [NotChecked(text, text)], text, 400)
    trace.known["symptom"] = symptom
    run = Run(
        script=text, arguments=[text], directory=text, python=text, framework=text, started=1.0, seconds=2.0, own_seconds=0.1,
        probe_seconds=0.1, thorough_seconds=0.1, thorough_steps=3.0, exit=text, own_errors=[text], notes=[text],
        exceptions=[Raised(text, text, "loss", site)],
    )  # fmt: skip
    return Diagnosis(run, [training, msgspec.structs.replace(training)], text, RunRecord(run, [trace], text))


def test_whatever_the_training_is_called_the_page_has_the_same_elements() -> None:
    plain, hostile = read(made_of("§")), read(made_of(HOSTILE))
    names = [(name, sorted(attributes)) for name, attributes in plain.elements]
    assert [(name, sorted(attributes)) for name, attributes in hostile.elements] == names
    assert hostile.text.count('<img src=x onerror="alert(1)">') >= 40
    assert "{{7*7}}" in hostile.text
    assert "u00a7" not in plain.scripts[0]  # the pictures need numbers, no words of the user's
    assert json.loads(hostile.scripts[0]) == json.loads(plain.scripts[0])


def test_a_path_that_is_no_text_can_be_written() -> None:
    html.render(made_of("caf\udce9.py")).encode("utf-8")


def test_without_the_record_there_are_no_curves_and_it_says_so() -> None:
    diagnosis = msgspec.structs.replace(of(sick()), record=None, trace=".unstuck/x")
    page = read(diagnosis)
    assert "read from a saved report" in page.text
    assert "unstuck report .unstuck/x -o report.html" in page.text
    assert json.loads(page.scripts[0]) == {}
    assert len(page.scripts) == 2  # without a picture the drawing code is left out
    assert "1.6094" in page.text and "softmax is applied twice" in page.text
    assert "From the last layer" not in page.text and "Through the layers" not in page.text


def test_a_log_is_not_said_to_show_sound_wiring() -> None:
    symptom = Symptom("at-chance", 1, 1.609, math.log(5), classes=5)
    training = Training(symptom, not_checked=[NotChecked("W101", "a log holds numbers")], steps=60)
    text = read(Diagnosis(Run(script="loss.csv", framework="log"), [training])).text
    assert "worked out from a log" in text
    assert "Stuck at chance — why, the log cannot say." in text
    assert "wired correctly" not in text
    seen = Diagnosis(Run(script="train.py", framework="torch 2"), [training])
    assert "wired correctly" not in read(seen).text  # the rule that would know could not be asked
    training.not_checked = [NotChecked("I605", "it costs seconds")]
    assert "wired correctly" in read(seen).text


def test_a_loss_that_is_not_judged_is_compared_with_nothing() -> None:
    diagnosis = of(synthetic.training())
    symptom = diagnosis.worst.symptom
    symptom.name, symptom.judged, symptom.reason = "not-judged", False, "two optimizers share a loss"
    page = read(diagnosis)
    assert "Level not judged" in page.text and "Two optimizers share a loss." in page.text
    assert json.loads(page.scripts[0])["t0-loss"]["levels"] == []
    assert "Chance level" not in page.text


def test_a_run_without_training_is_a_page() -> None:
    page = read(of())
    assert "No training seen — the script never called backward" in page.text
    assert "run the script that trains" in page.text


def test_a_healthy_training_is_told_as_one() -> None:
    page = read(of(synthetic.training()))
    assert "Learning — the loss is" in page.text
    assert "Nothing was found that holds this training back." in page.text
    assert "▲" not in page.text


def test_what_was_not_recorded_is_said_in_words() -> None:
    diagnosis = of(sick())
    diagnosis.worst.not_checked = [NotChecked("I604", "no channel: layers (graph compiled)"), NotChecked("I605", "its own reason")]
    text = read(diagnosis).text
    assert f"This needs what was not recorded here, {channels.BY_NAME['layers'].meaning} (graph compiled)." in text
    assert "Its own reason." in text
    assert "no channel" not in text


def test_several_trainings_the_worst_in_the_open_the_rest_folded() -> None:
    traces = [synthetic.training(seed=i) for i in range(30)]
    page = read(of(*traces, sick()))
    folded = [a for a in page.all("details") if a.get("class") == "study"]
    assert len(folded) == 23  # 24 are shown in full
    assert "open" not in folded[0]
    assert "the worst of 31" in page.text
    assert page.text.count("Training 31") == 1  # in the overview
    charts = json.loads(page.scripts[0])
    assert {"t0-loss", "t1-loss", "t23-loss"} <= set(charts)


# -------------------------------------------------------------------------------------------------------------- what is drawn


LN5 = math.log(5)


def chart_of(losses, chance=LN5, state="at-chance", steps=None, **facts):
    n = len(losses)
    columns = {name: np.full(n, np.nan) for name in channels.SERIES_NAMES}
    columns["loss"] = np.asarray(losses, dtype=np.float64)
    columns["chance"] = np.full(n, chance)
    symptom = Symptom(state, None, 1.6, chance, classes=5, loss_kind="cross-entropy")
    trace = Trace(Facts(**facts), Series(np.arange(1, n + 1) if steps is None else np.asarray(steps), columns))
    return curves.loss(trace, Training(symptom, name="Net", steps=n), "nats", "t0-loss")


def test_a_loss_that_was_nan_is_a_gap_and_one_nobody_looked_at_is_none() -> None:
    losses = np.full(20, 1.6)
    losses[10:] = np.nan
    chart = chart_of(losses, state="non-finite")
    assert chart is not None
    assert chart.data["y"][9:12] == [1.6, None, None]
    assert chart.data["broken"] == list(range(11, 21))
    assert "At 10 measured steps it was not a number." in chart.summary
    unseen = chart_of(losses, chance=math.nan)
    assert unseen is not None and len(unseen.data["x"]) == 10 and unseen.data["broken"] == []
    assert unseen.data["end"] == 20
    assert "10 measured steps of 20" in unseen.drawn


def test_the_picture_says_in_words_where_the_curve_ends() -> None:
    chart = chart_of([1.8, *[math.log(5)] * 60])
    assert chart is not None
    assert "from 1.8000\N{NO-BREAK SPACE}nats to 1.6094\N{NO-BREAK SPACE}nats" in chart.summary
    assert "The end is at “1.6094 = ln 5: guessing”." in chart.summary
    assert len(chart.table) == curves.ROWS
    falling = chart_of(np.linspace(1.6, 0.2, 61))
    assert falling is not None and "below “1.6094 = ln 5: guessing”" in falling.summary


def test_a_loss_over_decades_gets_a_logarithmic_scale() -> None:
    chart = chart_of([1e6, *[1.0] * 50])
    assert chart is not None and chart.data["log"]
    low, high = chart.data["range"]
    assert low < 0 < 6 < high < 7
    negative = chart_of([1e6, *[-1.0] * 50])
    assert negative is not None and not negative.data["log"]


def test_long_curves_get_a_mean_that_is_one() -> None:
    losses = np.random.default_rng(1).normal(1.6, 0.1, 5000)
    chart = chart_of(losses)
    assert chart is not None and chart.data["mean"]["of"] == 31
    assert chart.data["mean"]["y"][0] == pytest.approx(losses[:32].mean(), rel=1e-5)
    assert len(chart.data["mean"]["y"]) == curves.AVERAGED
    assert chart_of(losses[:100]).data["mean"] is None


@pytest.mark.parametrize("losses", [[], [1.6], [math.nan, 1.6, math.nan], [math.nan] * 5])
def test_fewer_than_two_losses_are_no_curve(losses) -> None:
    assert chart_of(losses) is None


def verified(**changes) -> Finding:
    values = {
        "control": 1.609, "fixed": 0.2, "skill_control": 0.0, "skill_fixed": 0.9, "interval": [0.4, 0.9], "seeds": 3, "steps": 9,
        "how": "rerun", "curves": {"steps": [1.0, 5.0, 9.0], "control": [1.7, 1.6, 1.6], "fixed": [1.7, 0.8, 0.2]},
    }  # fmt: skip
    return Finding("W101", "softmax-twice", "certain", "Softmax.", verdict=Verdict("supported", "it learns", **(values | changes)))


def test_the_proof_has_both_arms_and_the_interval_of_the_gain() -> None:
    chart = curves.proof(verified(), "p", "nats")
    assert chart is not None
    assert (chart.data["x"], chart.data["control"], chart.data["fixed"]) == ([1, 5, 9], [1.7, 1.6, 1.6], [1.7, 0.8, 0.2])
    assert "As it is: from 1.7000\N{NO-BREAK SPACE}nats to 1.6000\N{NO-BREAK SPACE}nats." in chart.summary
    gain = curves.gain(verified().verdict)
    assert gain is not None and gain.what == "skill" and gain.text == "+0.40 to +0.90"
    # positions on the scale are those of the numbers: 0, 0.4, 0.9 and 1.0 lie on one line
    unit = (100 - gain.zero) / 1.0
    assert gain.start == pytest.approx(gain.zero + 0.4 * unit)
    assert gain.width == pytest.approx(0.5 * unit)
    assert curves.gain(verified(interval=[-0.1, 0.05], skill_control=None).verdict).what == "accuracy"


def test_a_proof_without_curves_or_with_broken_ones_draws_none() -> None:
    assert curves.proof(verified(curves={}), "p", "nats") is None
    assert curves.proof(verified(curves={"steps": [1.0, 2.0], "control": [1.0]}), "p", "nats") is None
    assert curves.gain(verified(interval=[]).verdict) is None
    assert curves.proof(Finding("W101", "x", "certain", "y"), "p", "nats") is None


def test_a_proof_is_shown_with_its_finding() -> None:
    diagnosis = of(sick())
    diagnosis.worst.findings[0].verdict = verified().verdict
    page = read(diagnosis)
    assert "Proven by experiment" in page.text
    assert "Gain of the fix in skill, seed by seed: +0.40 to +0.90" in page.text
    assert "t0-proof-0" in json.loads(page.scripts[0])
    diagnosis.worst.findings[0].verdict = Verdict("not-verified", "the script reads from standard input")
    assert "Not tried out because the script reads from standard input." in read(diagnosis).text


# ---------------------------------------------------------------------------------------------------------------- the network


def test_the_path_runs_from_the_last_layer_to_the_loss_and_one_box_is_marked() -> None:
    diagnosis = of(sick())
    assert diagnosis.record is not None
    [path] = network.paths(diagnosis.record.traces[0].facts, diagnosis.worst.findings)
    assert [n.title for n in path.nodes] == ["last layer: linear layer", "softmax", "log-softmax", "loss: cross-entropy"]
    assert [bool(n.fault) for n in path.nodes] == [False, True, False, False]
    assert path.nodes[1].fault == "W101 softmax twice"
    assert path.nodes[1].shape == "64 × 5"


def test_of_two_operations_on_one_line_the_one_that_the_finding_names_is_marked() -> None:
    line = synthetic.site(22, "return F.softmax(self.fc(x), dim=1)")
    head = synthetic.linear()
    head.site, head.made = line, None
    term = synthetic.cross_entropy(OpNode("softmax", "", [64, 5], dim=1, site=line))
    term.path[-1] = head
    diagnosis = of(synthetic.training(term, state="at-chance"))
    assert diagnosis.record is not None
    [path] = network.paths(diagnosis.record.traces[0].facts, diagnosis.worst.findings)
    assert [n.fault for n in path.nodes] == ["", "W101 softmax twice", "", ""]


def test_a_flipped_sign_is_a_box_behind_the_loss() -> None:
    diagnosis = of(rules()["W112"].sick())
    assert diagnosis.record is not None
    [path] = network.paths(diagnosis.record.traces[0].facts, diagnosis.worst.findings)
    assert path.nodes[-1].title == "times -1"
    assert "W112" in path.nodes[-1].fault


def test_a_long_path_keeps_its_ends() -> None:
    views = [OpNode("view", "", [i]) for i in range(60)]
    facts = Facts(terms=[synthetic.cross_entropy(OpNode("softmax", "", [1]), *views)])
    [path] = network.paths(facts, [])
    assert path.left_out == 62 - network.NODES
    assert path.nodes[0].title.startswith("last layer")
    assert [n.title for n in path.nodes[-3:]] == ["softmax", "log-softmax", "loss: cross-entropy"]


def deep(spreads, gradients=None, op="sigmoid", **look):
    """A stack of linear layers, each followed by an activation, with these spreads behind them."""
    site = synthetic.site(9, "x = layer(x)")
    layers, parameters = [], []
    for i, spread in enumerate(spreads):
        layers.append(Layer("linear", "input", units=8, site=site, parameters=[f"{i}.weight"],
                            looks=[LayerLook(7, rms=1.0, spread=0.5 if i == 0 else spreads[i - 1])]))  # fmt: skip
        seen = LayerLook(7, rms=0.5, spread=spread, **look)
        layers.append(Layer(op, "output", units=8, site=site, module="Sigmoid", looks=[seen]))
        gradient = gradients[i] if gradients else 0.1
        parameters.append(Parameter(f"{i}.weight", [8, 8], order=i, looks=[ParameterLook(7, 2.0, gradient, 0.01 * gradient)]))
    return Facts(layers=layers, parameters=parameters)


def test_the_layers_show_where_the_signal_dies() -> None:
    flow = network.flow(deep([0.3, 1e-2, 1e-5, 1e-8], [1e-6, 1e-4, 1e-2, 1.0]), [])
    assert flow is not None
    assert [r.name for r in flow.rows][:3] == ["layer 0", "sigmoid", "layer 1"]
    assert len(flow.rows) == 8  # the same activation after another layer is another row
    assert [r.name for r in flow.rows if r.spread and r.spread.flag] == ["sigmoid", "layer 3", "sigmoid"]
    assert flow.logarithmic == {"gradient", "update"}
    widths = [r.gradient.width for r in flow.rows if r.gradient]
    assert widths == pytest.approx([4, 36, 68, 100])  # equal factors are equal lengths
    assert "1e-06 at layer 0 (nearest to the data) and 1 at layer 3 (nearest to the loss)" in flow.told
    assert flow.step == "7" and "idle" not in flow.columns


def test_a_quiet_layer_whose_signal_comes_back_is_not_pointed_at() -> None:
    flow = network.flow(deep([0.3, 1e-9, 0.4]), [])
    assert flow is not None and not any(r.spread.flag for r in flow.rows if r.spread)
    healthy = network.flow(deep([0.3, 1e-9, 1e-9], [0.0, 0.0, 0.0], saturated=1.0), [], sound=True)
    assert healthy is not None and "stands out" not in healthy.told


def test_weights_whose_layer_was_not_looked_at_stand_in_their_place() -> None:
    facts = deep([0.3, 0.2], [0.1, 0.2])
    look = ParameterLook(7, 2.0, 0.5, 0.1)
    facts.parameters += [Parameter("embed.weight", [9, 8], order=-1, looks=[look]), Parameter("last.weight", [9], looks=[look])]
    flow = network.flow(facts, [])
    assert flow is not None
    assert [r.name for r in flow.rows] == ["embed", "layer 0", "sigmoid", "layer 1", "sigmoid", "last"]
    assert "0.1 at layer 0" in flow.told  # a layer is named as nearest to the data only where it was seen to be


def test_dead_and_saturated_shares_are_named() -> None:
    dead = network.flow(deep([0.0], op="relu", dead=1.0), [])
    assert dead is not None and dead.rows[1].idle == network.Cell("100% dead", 100.0, "all dead")
    saturated = network.flow(deep([0.1], saturated=0.25), [])
    assert saturated is not None and saturated.rows[1].idle == network.Cell("25.0% saturated", 25.0, "")


def test_a_network_unrolled_over_time_is_one_row() -> None:
    site = synthetic.site(9, "h = self.gru(x)")
    steps = [Layer("tanh", "output", units=4, site=site, module="GRU", looks=[LayerLook(7, rms=0.5, spread=s, saturated=1 - s)])
             for s in (0.5, 0.1, 0.9)]  # fmt: skip
    flow = network.flow(Facts(layers=steps), [])
    assert flow is not None and len(flow.rows) == 1
    assert flow.rows[0].times == 3
    assert flow.rows[0].spread is not None and flow.rows[0].spread.text == "10.0%"
    assert flow.rows[0].idle is not None and flow.rows[0].idle.text == "90.0% saturated"


def test_where_nothing_was_measured_nothing_is_said() -> None:
    assert network.flow(Facts(), []) is None
    assert network.flow(Facts(layers=[Layer("relu")], parameters=[Parameter("w", [3])]), []) is None
    assert network.paths(Facts(), []) == []
    assert network.labels(None, Symptom("at-chance")) is None
    page = read(of(sick()))
    assert "Through the layers" not in page.text


def test_after_a_nan_the_last_look_with_numbers_is_shown() -> None:
    looks = [LayerLook(10, rms=2.0, spread=0.5), LayerLook(500)]
    flow = network.flow(Facts(layers=[Layer("linear", "input", parameters=["a.weight"], looks=looks)]), [])
    assert flow is not None and flow.step == "10" and flow.rows[0].size is not None and flow.rows[0].size.text == "2"


def test_the_label_balance_adds_up() -> None:
    counts = [float(i) for i in range(1, 101)]
    stats = LabelStats("index", rows=5050, kept=5050, calls=10, counts=counts)
    answers = [0.0] * 99 + [1.0]
    labels = network.labels(stats, Symptom("at-chance", recall=[None] * 99 + [1.0], predicted_share=answers))
    assert labels is not None and len(labels.rows) == network.CLASSES + 1
    assert labels.rows[-1].name == "the other 88 together"
    assert sum(r.label.width for r in labels.rows if r.label) == pytest.approx(100)
    assert "99 classes never" in labels.told
    assert labels.rows[0].right is None and labels.rows[-2].right is not None
    assert [int(r.name) for r in labels.rows[:-1]] == list(range(88, 100))


def test_targets_that_are_no_classes_have_no_balance() -> None:
    labels = network.labels(LabelStats("real", rows=9, kept=9, calls=3, lowest=-1.5, highest=2.0), Symptom("plateau"))
    assert labels is not None and labels.rows == []
    assert "real numbers from -1.5 to 2, not classes" in labels.plain


# ------------------------------------------------------------------------------------------------------------------ the words


def test_shares_are_not_rounded_to_what_they_are_not() -> None:
    values = (0.0, 1e-7, 4e-4, 0.123, 0.99951, 1.0)
    assert [words.share(v) for v in values] == ["0%", "1e-05%", "0.04%", "12.3%", "over 99.9%", "100%"]


def test_only_losses_that_are_logarithms_are_in_nats() -> None:
    assert words.unit("cross-entropy") == "nats"
    assert words.unit("binary cross-entropy with logits") == "nats"
    assert words.unit("mse") == ""


def test_names_of_the_users_keep_their_letters_inside_a_sentence() -> None:
    assert words.inside("Softmax is applied twice.") == "softmax is applied twice"
    assert words.inside("SGD.step() changes no weight.") == "SGD.step() changes no weight"
    assert words.inside("Backbone.fc was drawn too large.") == "Backbone.fc was drawn too large"


def test_every_state_grade_role_and_source_has_its_words() -> None:
    from typing import get_args

    from unstuck import findings
    from unstuck.stats import skill

    assert set(words.STATES) >= {*get_args(skill.Name), "not-judged", "no-training"}
    assert set(words.GRADES) == set(get_args(findings.Grade))
    assert set(words.ROLES) == set(get_args(findings.Role))
    assert set(words.SOURCES) == set(get_args(findings.Source))


def test_the_page_model_holds_what_the_run_cost_and_what_failed() -> None:
    cost = {"probe_seconds": 0.05, "thorough_seconds": 0.5, "thorough_steps": 12.0}
    page = page_of(of(sick(), own_errors=["a probe failed"], notes=["a note"], **cost))
    assert page.cost[0] == "Watching took 0.10 s of the 2.00 s that the script ran (5.0%)."
    assert "12 of its steps" in page.cost[2]
    assert page.own_errors == ["a probe failed"] and page.notes == ["A note."]


def test_a_million_steps_and_many_trainings_stay_below_six_megabytes(monkeypatch) -> None:
    from plotly.offline import get_plotlyjs

    monkeypatch.setattr(html, "_plotly", get_plotlyjs)
    n = 1_000_000
    rng = np.random.default_rng(0)
    columns = {name: np.full(n, np.nan) for name in channels.SERIES_NAMES}
    columns["loss"] = 1.6 + 0.02 * rng.standard_normal(n)
    traces, trainings = [], []
    for i in range(60):
        m = n if i == 0 else 20_000
        symptom = Symptom("at-chance", 5, 1.6, math.log(5), 1.6, classes=5, loss_kind="cross-entropy")
        series = Series(np.arange(1, m + 1), {k: v[:m] for k, v in columns.items()})
        traces.append(Trace(Facts(id=i), series, known={"symptom": symptom}))
        trainings.append(Training(symptom, name=f"Net{i}", steps=m))
    text = html.render(Diagnosis(Run(script="train.py"), trainings, "", RunRecord(Run(), traces)))
    assert len(text.encode()) < 6_000_000
    assert text.count("plotly.js v") >= 1
