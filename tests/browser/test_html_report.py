"""The HTML report in a real browser: it asks the network for nothing, draws, answers mouse and keyboard, and looks right."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from unstuck.engine import diagnose
from unstuck.findings import Diagnosis, Evidence, Finding, Fix, Symptom, Training, Verdict
from unstuck.report.html import render
from unstuck.trace import channels, synthetic
from unstuck.trace.facts import Facts, Layer, LayerLook, OpNode, Parameter, ParameterLook, Run, Site
from unstuck.trace.trace import RunRecord, Series, Trace

SOFTMAX = OpNode("softmax", "SoftmaxBackward0", [64, 5], dim=1, site=synthetic.site(41, "return softmax(x)"))
DIFF = "--- model.py\n+++ model.py\n@@ -40,2 +40,2 @@\n     x = self.head(x)\n-    return softmax(x)\n+    return x\n"


def network() -> dict[str, object]:
    """Layers and parameters as a trace has them: a stack in which the gradient shrinks."""
    layers, parameters = [], []
    for i in range(5):
        site = synthetic.site(20 + i, f"x = torch.relu(self.fc{i}(x))")
        layers.append(Layer("linear", "input", units=64, site=site, parameters=[f"fc{i}.weight"],
                            looks=[LayerLook(200, rms=1.0, spread=0.5**i)]))  # fmt: skip
        layers.append(Layer("relu", "output", units=64, site=site, looks=[LayerLook(200, rms=0.7, spread=0.4**i, dead=0.2 * i)]))
        parameters.append(Parameter(f"fc{i}.weight", [64, 64], looks=[ParameterLook(200, 8.0, 10.0 ** (i - 5), 10.0 ** (i - 7))]))
    return {"layers": layers, "parameters": parameters}


@pytest.fixture(scope="module")
def story() -> Diagnosis:
    """A run with everything a page can show: two trainings, a cause with its diff and its proof, layers, labels."""
    term = synthetic.cross_entropy(SOFTMAX)
    term.labels.hits, term.labels.seen, term.labels.predicted = [0, 0, 9, 0, 0], [9.0] * 5, [0, 0, 40, 5, 0]
    traces = [synthetic.training(), synthetic.training(term, state="at-chance", steps=900, **network())]
    run = Run(
        script="train.py", arguments=["--epochs", "3"], framework="torch 2", python="3.11", started=1.7e9, seconds=12.0,
        own_seconds=0.3, probe_seconds=0.1, exit="0", notes=["5 re-runs of up to 900 steps in 11 s"],
    )  # fmt: skip
    diagnosis = diagnose(RunRecord(run, traces))
    diagnosis.trace = ".unstuck/20250101-120000"
    cause = diagnosis.worst.findings[0]
    assert cause.code == "W101" and cause.fix is not None
    cause.fix = msgspec.structs.replace(cause.fix, diff=DIFF)
    steps = np.arange(1, 901, 15, dtype=float)
    curves = {"steps": steps.tolist(), "control": [1.609] * len(steps), "fixed": (0.1 + 1.5 * np.exp(-steps / 200)).tolist()}
    cause.verdict = Verdict(
        "supported", "reaches 0.117 nats after 900 steps; unchanged it stays at 1.609 nats", 1.609, 0.117, 0.0, 0.93,
        [0.85, 0.97], 3, 900, "rerun", 11.0, 0.0, curves,
    )  # fmt: skip
    return diagnosis


@pytest.fixture(scope="module")
def page(story) -> str:
    return render(story)


def svg(browser, id: str, selector: str) -> list:
    return browser.driver.find_elements(By.CSS_SELECTOR, f"#{id} {selector}")


def texts(browser, id: str) -> list[str]:
    return browser.js("return [...document.querySelectorAll(`#${arguments[0]} .annotation-text`)].map(e => e.textContent)", id)


def scrolls(browser) -> bool:
    """Is the page wider than the window?"""
    return browser.js("return document.documentElement.scrollWidth > innerWidth || document.body.scrollWidth > innerWidth")


def test_it_opens_without_a_request_and_draws(browser, page) -> None:
    browser.open(page)
    asked = browser.requests()
    assert asked and all(url.startswith(("file://", "data:", "blob:")) for url in asked), asked
    assert sum(url.startswith("file://") for url in asked) == 1  # the page itself
    assert browser.complaints() == []
    assert len(svg(browser, "t0-loss", ".scatterlayer path.js-line")) == 2  # the losses and their mean
    assert len(svg(browser, "t0-loss", ".shapelayer path")) == 3
    assert "1.6094 = ln 5: guessing" in texts(browser, "t0-loss")
    assert "0.9048: floor of W101" in texts(browser, "t0-loss")
    assert len(svg(browser, "t0-proof-0", ".scatterlayer path.js-line")) == 2
    assert set(texts(browser, "t0-proof-0")) == {"as it is", "with the fix"}
    browser.picture("report-light")


def test_names_of_lines_that_lie_close_do_not_cover_each_other(browser, page) -> None:
    browser.open(page)
    boxes = browser.js(
        "return [...document.querySelectorAll('#t0-loss .annotation-text')].map(e => {const b = e.getBoundingClientRect();"
        " return [b.top, b.bottom, b.right]}).sort((a, b) => a[0] - b[0])"
    )
    assert len(boxes) == 3
    assert all(upper[1] <= lower[0] + 3 for upper, lower in pairwise(boxes))
    assert max(b[2] for b in boxes) <= browser.js("return document.getElementById('t0-loss').getBoundingClientRect().right")


def test_the_mouse_gets_an_answer(browser, page) -> None:
    browser.open(page)
    chart = browser.driver.find_element(By.ID, "t0-loss")
    browser.js("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", chart)
    for shift in (0, 3, 6):
        browser.point_at(chart, shift, 0)
    said = "[...document.querySelectorAll('#t0-loss .hoverlayer text')].map(e => e.textContent).join(' ')"
    browser.wait(said)
    label = browser.js(f"return {said}")
    assert "nats" in label and "loss 1." in label


def test_dark_by_the_readers_wish_and_by_the_button(browser, page) -> None:
    browser.screen(dark=True)
    browser.open(page)
    paper = "return getComputedStyle(document.body).backgroundColor"
    line = "return document.querySelector('#t0-proof-0 path.js-line').style.stroke"
    dark, drawn_dark = browser.js(paper), browser.js(line)
    button = browser.driver.find_element(By.ID, "theme")
    assert button.get_attribute("aria-pressed") == "true"
    browser.picture("report-dark")
    button.click()
    light, drawn_light = browser.js(paper), browser.js(line)
    assert button.get_attribute("aria-pressed") == "false"
    assert sum(map(int, dark[4:-1].split(","))) < 120 < 600 < sum(map(int, light[4:-1].split(",")))
    assert drawn_dark != drawn_light  # the pictures follow
    browser.screen(dark=False)
    browser.open(page)
    assert browser.js(paper) == light


# Contrast of every piece of text with what lies behind it, by the formula of WCAG 2. Returns the worst.
CONTRAST = """
const channel = v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4 };
const light = c => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
const parse = s => (s.match(/[\\d.]+/g) || []).map(Number);
const behind = e => {
  for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c;
  }
  return [255, 255, 255];
};
let worst = [99, ""];
for (const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); walk.nextNode();) {
  const e = walk.currentNode.parentElement, text = walk.currentNode.textContent.trim();
  if (!text || !e.getClientRects().length || e.closest("script, style, .hidden, noscript")) continue;
  const style = getComputedStyle(e), ink = parse(e.namespaceURI.endsWith("svg") ? style.fill : style.color);
  const [a, b] = [light(ink), light(behind(e))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < worst[0]) worst = [ratio, `${e.tagName}.${e.getAttribute("class")}: ${text.slice(0, 40)}`];
}
return worst;
"""


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_can_be_read_against_what_is_behind_it(browser, page, dark: bool) -> None:
    browser.screen(dark=dark)
    browser.open(page)
    browser.js("document.querySelectorAll('details').forEach(e => { e.open = true })")
    ratio, where = browser.js(CONTRAST)
    assert ratio >= 4.5, where


def test_no_width_needs_to_be_scrolled_sideways(browser, page) -> None:
    """From a phone to 4K, opened at that width and turned or resized to it."""
    browser.screen(360, 740)
    browser.open(page)
    browser.picture("report-360")
    browser.js("document.querySelectorAll('details').forEach(e => { e.open = true })")
    for width, height in ((360, 740), (320, 740), (740, 360), (1280, 900), (3840, 2160), (360, 740)):
        browser.screen(width, height)
        browser.js("return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50))))")
        assert not scrolls(browser), width
        left, right = browser.js(
            "const b = document.querySelector('#t0-loss .main-svg').getBoundingClientRect(); return [b.left, b.right]"
        )
        assert left >= 0 and width * 0.2 < right - left and right <= width
        if width == 3840:
            browser.picture("report-3840", 0.5)


def test_the_keyboard_reaches_everything(browser, page) -> None:
    browser.open(page)
    here = "const e = document.activeElement; return [e.tagName, e.id, e.textContent.trim().slice(0, 30)]"
    browser.press(Keys.TAB)
    assert browser.js(here)[2] == "Skip to the verdict"
    assert browser.js("return document.activeElement.getBoundingClientRect().top") >= 0  # it comes into view
    browser.press(Keys.TAB)
    assert browser.js(here)[1] == "theme"
    assert browser.js("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press(Keys.ENTER)
    assert browser.js("return document.documentElement.dataset.theme") == "dark"
    reached = []
    for _ in range(60):
        browser.press(Keys.TAB)
        tag, _, text = browser.js(here)
        if tag == "BODY":
            break
        reached.append((tag, text))
        if tag == "SUMMARY":
            browser.press(Keys.ENTER)
    summaries = browser.js("return document.querySelectorAll('summary').length")
    assert sum(tag == "SUMMARY" for tag, _ in reached) == summaries
    assert browser.js("return document.querySelectorAll('details:not([open])').length") == 0
    browser.wait("document.querySelector('#t1-loss path.js-line') !== null")  # drawn once it was opened


def test_a_link_to_a_folded_training_opens_it(browser, page) -> None:
    browser.open(page)
    assert svg(browser, "t1-loss", "path.js-line") == []
    browser.js("document.querySelector('a[href=\"#t1\"]').click()")
    browser.wait("document.getElementById('t1').open")
    browser.wait("document.querySelector('#t1-loss path.js-line') !== null")


HOSTILE = (
    '</script><script>window.hacked=1</script><img src=x onerror="window.hacked=2;alert(1)">'
    "<b onmouseover=alert(2)>'\"{{7*7}}"
)


def test_hostile_names_stay_text(browser) -> None:
    site = Site(f"{HOSTILE}.py", 3, f"x = {HOSTILE}", HOSTILE)
    term = synthetic.cross_entropy(OpNode(HOSTILE, HOSTILE, [64, 5], site=site))
    trace = synthetic.training(term, state="at-chance", name=HOSTILE)
    symptom = Symptom("at-chance", 3, 1.6, math.log(5), 1.6, classes=5, reason=HOSTILE, loss_kind=HOSTILE)
    trace.known["symptom"] = symptom
    label = f"97% of the labels are class {HOSTILE}"
    finding = Finding("W101", HOSTILE, "certain", label, evidence=[Evidence(label)], locations=[site], floor=0.9,
                      fix=Fix(HOSTILE, "safe", f"--- a\n+++ b\n@@ -1 +1 @@\n-{HOSTILE}\n+{HOSTILE}\n"))  # fmt: skip
    run = Run(script=HOSTILE, arguments=[HOSTILE], notes=[HOSTILE], own_errors=[HOSTILE])
    diagnosis = Diagnosis(run, [Training(symptom, [finding], name=HOSTILE, steps=400)], HOSTILE, RunRecord(run, [trace]))
    browser.open(render(diagnosis))
    assert browser.complaints() == []
    assert browser.js("return window.hacked === undefined")
    assert browser.js("return document.querySelectorAll('img, main b, main script, [onerror], [onmouseover]').length") == 0
    assert browser.js("return document.scripts.length") == 3
    text = browser.js("return document.body.innerText")
    assert text.count("<img src=x onerror=") >= 12
    assert "{{7*7}}" in text
    assert f"unstuck fix {HOSTILE}"[:60] in text
    assert browser.driver.title.endswith("unstuck")
    with pytest.raises(Exception, match="no such alert"):
        _ = browser.driver.switch_to.alert.text
    browser.screen(360)
    assert not scrolls(browser)


def test_a_million_steps_are_drawn_in_less_than_a_second(browser) -> None:
    n = 1_000_000
    columns = {name: np.full(n, np.nan) for name in channels.SERIES_NAMES}
    columns["loss"] = np.random.default_rng(0).normal(1.6, 0.02, n)
    columns["loss"][700_001] = 3.25
    symptom = Symptom("at-chance", 5, 1.6, math.log(5), 1.605, classes=5, loss_kind="cross-entropy")
    trace = Trace(Facts(), Series(np.arange(1, n + 1), columns), known={"symptom": symptom})
    text = render(Diagnosis(Run(script="train.py"), [Training(symptom, name="Net", steps=n)], "", RunRecord(Run(), [trace])))
    assert len(text.encode()) < 6_000_000
    took = []
    for _ in range(3):
        browser.open(text)
        took.append(browser.js(
            "const at = n => performance.getEntriesByName(`unstuck:${n}`)[0].startTime;"
            "return [at('drawn') - at('start'), at('drawn')]"
        ))  # fmt: skip
    told = [{"drawing": drawing, "from the start of the page": whole} for drawing, whole in took]
    (browser.pictures / "million-steps.json").write_text(json.dumps({"bytes": len(text.encode()), "milliseconds": told}, indent=1))
    assert min(drawing for drawing, _ in took) < 1000
    assert browser.complaints() == []
    data = browser.js(
        "const d = document.getElementById('t0-loss').data[0]; return [d.x.length, Math.max(...d.y), d.x[d.y.indexOf(3.25)]]"
    )
    assert data[0] < 8100 and data[1:] == [3.25, 700_002]  # the one spike is there, at its step
    browser.picture("report-million")


def test_on_paper_all_is_open_and_dark_on_white(browser, page) -> None:
    browser.screen(dark=True)
    browser.open(page)
    folded = browser.js("return document.querySelectorAll('details:not([open])').length")
    browser.js("window.dispatchEvent(new Event('beforeprint'))")
    browser.command("Emulation.setEmulatedMedia", media="print")
    assert folded and browser.js("return document.querySelectorAll('details:not([open])').length") == 0
    assert browser.js("return getComputedStyle(document.body).color") == "rgb(28, 28, 32)"
    assert browser.js("return getComputedStyle(document.querySelector('nav')).display") == "none"
    assert len(svg(browser, "t1-loss", "path.js-line")) >= 1
    browser.picture("report-print")
    browser.js("window.dispatchEvent(new Event('afterprint'))")
    assert browser.js("return document.querySelectorAll('details:not([open])').length") == folded
    assert browser.js("return document.documentElement.dataset.theme === undefined")


def test_who_wants_no_motion_gets_none(browser, page) -> None:
    browser.screen(calm=True)
    browser.open(page)
    assert browser.js("return getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    browser.screen()
    assert browser.js("return getComputedStyle(document.documentElement).scrollBehavior") == "smooth"


def test_without_scripts_all_words_and_numbers_are_there(browser, page) -> None:
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    file = browser.folder / "bare.html"
    file.write_text(page, encoding="utf-8")
    browser.driver.get(file.as_uri())
    text = browser.driver.find_element(By.TAG_NAME, "body").text
    browser.command("Emulation.setScriptExecutionDisabled", value=False)
    assert "scripts are off" in text
    for words in ("softmax is applied twice", "1.6094 = ln 5: guessing", "model.py:41", "-    return softmax(x)", "+0.85 to +0.97"):
        assert words in text
    assert "Dark theme" not in text
