"""No rule raises where something was not measured: every fact of its own sick trace is taken away, one at a time."""

from __future__ import annotations

import copy
import math
import types
import typing

import msgspec
import numpy as np
import pytest

from unstuck.rules import Rule, rules
from unstuck.trace import synthetic
from unstuck.trace.facts import Facts, LabelStats, LossTerm, OpNode, TermValues
from unstuck.trace.trace import Series, Trace

each = pytest.mark.parametrize("rule", list(rules().values()), ids=lambda r: f"{r.code}-{r.name}")


def ask(rule: Rule, trace: Trace) -> None:
    trace.known.pop("symptom", None)
    if not trace.missing(rule.needs):
        rule.check(trace)
        rule.in_order(trace)


def structs(value, depth=0):
    """The struct and all structs inside of it; of a list the first and the last."""
    if isinstance(value, msgspec.Struct):
        yield value
        for name in value.__struct_fields__:
            yield from structs(getattr(value, name), depth + 1)
    elif isinstance(value, list) and value:
        yield from structs(value[0], depth)
        if len(value) > 1:
            yield from structs(value[-1], depth)


def absent(kind, struct):
    """Values that the type of a field allows and that stand for 'not measured'. What belongs to a loss is always known."""
    if isinstance(struct, LossTerm | LabelStats | TermValues | OpNode):
        return
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    for option in options:
        if option is type(None):
            yield None
        elif option is float:
            yield math.nan
        elif option is str:
            yield ""
        elif typing.get_origin(option) is list:
            yield []
        elif typing.get_origin(option) is dict:
            yield {}
        elif option is int:
            yield 0


@each
def test_nothing_was_seen(rule: Rule):
    empty = Trace(Facts(), Series.empty())
    assert rule.check(empty) is None
    assert rule.in_order(empty) == ""


@each
def test_one_thing_was_not_measured(rule: Rule):
    trace = rule.sick()
    for number, struct in enumerate(list(structs(trace.facts))):
        if type(struct).__struct_config__.frozen:
            continue
        for name, kind in typing.get_type_hints(type(struct)).items():
            kept = getattr(struct, name)
            for value in absent(kind, struct):
                setattr(struct, name, copy.copy(value))
                try:
                    ask(rule, trace)
                except Exception as error:
                    raise AssertionError(f"{type(struct).__name__}.{name} = {value!r} (struct {number})") from error
            setattr(struct, name, kept)


@each
def test_a_series_was_not_recorded(rule: Rule):
    trace = rule.sick()
    for name in list(trace.series.columns):
        kept = trace.series.columns[name]
        trace.series.columns[name] = np.full(len(kept), np.nan)
        ask(rule, trace)
        trace.series.columns[name] = kept
    trace.series = trace.series.since(10**6)
    ask(rule, trace)


@each
def test_healthy_trainings_of_other_kinds(rule: Rule):
    for term in (synthetic.cross_entropy(), synthetic.binary()):
        for state in ("learning", "at-chance", "plateau", "non-finite"):
            ask(rule, synthetic.training(term, state=state))
