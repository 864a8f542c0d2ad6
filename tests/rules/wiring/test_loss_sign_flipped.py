import pytest

from unstuck.rules.wiring import loss_sign_flipped as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Loop, Optimizer


def check(sign=1, *, maximize=False, ascent=0, checked=50, decay=0.0, more=(), optimizers=None, loop=None, **changes):
    term = synthetic.cross_entropy(sign=sign, **changes)
    step = synthetic.site(43, "p += lr * p.grad", synthetic.TRAIN, "train")
    loop = loop or {}
    facts = {
        "terms": [term, *more],
        "loop": Loop(steps=400, ascent_checked=checked, ascent=ascent, step_site=step, **loop),
        "optimizers": [Optimizer("SGD", made=synthetic.site(14, "opt = SGD(...)", synthetic.TRAIN), steps=400,
                                 maximize=maximize, weight_decay=decay)],
    }  # fmt: skip
    if optimizers is not None:
        facts["optimizers"] = optimizers
    return rule.check(synthetic.training(term, **facts))


def test_sick_is_named_with_its_line():
    found = rule.check(rule.sick())
    assert (found.code, found.grade, found.bearing, found.locations[0].line) == ("W112", "certain", "blocks", 41)


def test_healthy_maximised_likelihood_is_silent():
    assert rule.check(rule.healthy()) is None


def test_the_negating_line_comes_first():
    line = synthetic.site(39, "loss = -criterion(out, y)", synthetic.TRAIN)
    assert check(-1, sign_site=line).locations[0] == line


def test_maximize_on_a_loss():
    assert check(maximize=True, ascent=50).locations[0].line == 14
    assert check(maximize=True, checked=0).code == "W112"
    assert check(-1, maximize=True, ascent=50) is None


def test_update_up_the_gradient():
    assert check(ascent=50, optimizers=[]).locations[0].line == 43
    assert check(-1, ascent=50, optimizers=[]) is None
    assert check(ascent=4, checked=4) is None
    assert check(ascent=49) is None


def test_decay_can_turn_an_update():
    assert check(ascent=50, decay=0.5) is None


def test_updates_by_hand_that_were_not_seen():
    assert check(-1, checked=0, loop={"functional": True}, optimizers=[]) is None
    assert check(-1, loop={"functional": True}, optimizers=[]).code == "W112"


def test_a_focal_weight_hides_the_sign():
    assert check(-1, coefficient=None) is None


def test_one_of_several_terms():
    assert check(-1, more=[synthetic.cross_entropy(judged=False)]) is None
    assert check(-1, more=[synthetic.cross_entropy(kind="unknown", judged=False)]).code == "W112"


def test_policy_gradients_and_players():
    assert check(-1, sample_weighted=True) is None
    assert check(-1, loop={"unjudged": "two optimizers share a loss"}) is None
    assert check(-1, loop={"adversarial": 3}) is None


def test_two_optimizers_that_disagree():
    both = [Optimizer("SGD", steps=10, maximize=True), Optimizer("SGD", steps=10)]
    assert check(optimizers=both) is None


@pytest.mark.parametrize("kind", ["mse", "kl", "unknown", "ctc"])
def test_other_losses(kind):
    assert check(-1, kind=kind) is None
