"""E803."""

import math

import pytest

from unstuck.rules.evaluation import wrong_reduction as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Optimizer, Probe


def case(state="at-chance", probes=(), **term):
    trace = synthetic.training(synthetic.cross_entropy(**term), state=state, probes=list(probes))
    trace.facts.optimizers = [Optimizer("SGD", made=synthetic.site(14, "SGD"), steps=400)]
    return trace


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("E803", "certain", "hinders")
    assert "64 times" in finding.summary
    assert "103 nats instead of 1.609" in finding.evidence[1].text  # 64 ln 5
    assert finding.locations[0].line == 41


def test_healthy():
    assert rule.check(rule.healthy()) is None
    assert rule.in_order(rule.healthy()) == "the loss is a mean with the factor 1"


def test_adaptive_optimizers_divide_it_out():
    trace = rule.sick()
    trace.facts.optimizers[0].adaptive = True
    assert rule.check(trace) is None


@pytest.mark.parametrize(
    "fields, factor",
    [
        ({"reduction": "sum"}, 64.0),
        ({"reduction": "sum", "coefficient": 1 / 64}, None),  # divided by the batch
        ({"reduction": "sum", "coefficient": 0.1}, 6.4),
        ({"reduction": "sum", "coefficient": None}, None),
        ({"reduction": "sum", "input_shape": [1, 5]}, None),
        ({"reduction": "sum", "input_shape": [8, 5, 20]}, 160.0),
        ({"reduction": "sum", "input_shape": [8, 5, 20], "coefficient": 1 / 160}, None),
        ({"reduction": "sum", "input_shape": [8, 5, 20], "coefficient": 1 / 8}, None),  # a mean over sequences
        ({"reduction": "sum", "label_smoothing": 0.1, "coefficient": 0.9}, 64.0),
        ({"kind": "soft-cross-entropy", "coefficient": 0.2}, 0.2),
        ({"kind": "soft-cross-entropy", "coefficient": 0.25}, None),
        ({"kind": "kl", "reduction": "mean"}, 0.2),
        ({"kind": "kl", "reduction": "batchmean"}, None),
        ({"kind": "bce-logits", "input_shape": [64, 1], "reduction": "sum"}, 64.0),
        ({"kind": "bce-logits", "input_shape": [64, 5], "coefficient": 0.2}, None),  # a mean over columns is usual
        ({"kind": "mse", "reduction": "sum"}, None),
        ({"reduction": "sum", "sample_weighted": True}, None),
        ({"reduction": "mean"}, None),
    ],
)
def test_factor(fields, factor):
    found = rule._factor(synthetic.cross_entropy(**fields))
    assert (found is None) == (factor is None)
    if factor is not None:
        assert math.isclose(found[0], factor)


def test_a_share_of_accumulated_batches():
    trace = case(coefficient=0.2)
    assert rule.check(trace) is not None
    trace.series.columns["backwards"][:] = 5.0
    assert rule.check(trace) is None


def test_several_terms_have_weights():
    trace = case(coefficient=0.2)
    trace.facts.terms.append(synthetic.cross_entropy())
    assert rule.check(trace) is None


def test_sum_with_sound_steps_is_a_note():
    sound = [Probe(k, 1.6, 1.6, 1.5, 0.1) for k in (1, 100)]
    assert rule.check(case(reduction="sum", probes=sound)).bearing == "harmless"
    assert rule.check(case(reduction="sum")).bearing == "choice"
    assert rule.check(case("above-chance", reduction="sum", probes=sound)).bearing == "hinders"
    assert rule.check(case("non-finite", reduction="sum")).bearing == "hinders"


def test_mean_over_classes():
    trace = case(coefficient=0.2)
    assert rule.check(trace).bearing == "choice"  # the steps add up to something; at chance for whatever reason
    trace.series.columns["predicted"][::10] = 1e-6
    finding = rule.check(trace)
    assert finding.bearing == "hinders"
    assert "1/5" in finding.summary and "0.002 nats" in finding.evidence[-1].text  # 400 * 1e-6 / 0.2


def test_mean_over_classes_seen_at_a_longer_step():
    short = Probe(300, 1.6, 1.6, 1.599, 0.001, {"10": 1.591, "100": 1.52})
    assert rule.check(case(coefficient=0.2, probes=[short])).bearing == "hinders"
    long = Probe(300, 1.6, 1.6, 1.599, 0.001, {"10": 1.598, "100": 1.9})
    assert rule.check(case(coefficient=0.2, probes=[long])).bearing == "choice"
