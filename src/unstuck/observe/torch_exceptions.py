"""Exceptions of the training: those that the script catches, the one that ends it, and the loss call they tell of."""

from __future__ import annotations

from typing import Any

from unstuck.observe import sites, torch_spy
from unstuck.observe.torch_guard import Guard
from unstuck.observe.torch_terms import Terms
from unstuck.observe.torch_trainings import Trainings
from unstuck.trace.facts import LossTerm, Raised, Site


class Exceptions:
    """Notes each once, however many of our wrappers it passes. What comes before the first training waits for it."""

    def __init__(self, guard: Guard, trainings: Trainings, terms: Terms) -> None:
        self.guard = guard
        self.trainings = trainings
        self.terms = terms
        self.orphans: list[Raised] = []
        self.orphan_terms: list[LossTerm] = []
        self.failures = 0  # exceptions seen that did not end the script

    def raised(self, error: BaseException, phase: str) -> None:
        """A forward pass or a backward raised."""
        if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)) or not _first_sight(error):
            return
        inner, _ = sites.raised_at(error.__traceback__)
        self._note(error, phase, inner)
        self._post_mortem(error)

    def function_raised(self, error: BaseException, func: Any, args: Any, kwargs: Any) -> None:
        """A torch function raised under the spy. A loss call's arguments are the best witness of what is wrong."""
        if not isinstance(error, Exception):
            return
        place = sites.site(sites.caller(2))
        if place is None or not _first_sight(error):
            return
        name = getattr(func, "__name__", "")
        loss = func in torch_spy._LOSSES
        if self.guard.local.depth == 0 and name not in {"backward", "__getattr__", "__get__"}:
            self._note(error, "loss" if loss else "script", place)
        if loss:
            if self.guard.local.depth:
                self._note(error, "loss", place)
            term = self.terms.from_arguments(name, torch_spy.named_arguments(name, args, kwargs or {}), place)
            self._attach_term(term)

    def script_failed(self, error: BaseException) -> None:
        """The exception that ends the script."""
        inner, _ = sites.raised_at(error.__traceback__)
        phase = "script"
        traceback = error.__traceback__
        while traceback is not None:
            name = traceback.tb_frame.f_code.co_name
            if name in torch_spy.LOSS_FUNCTIONS and sites.owner(traceback.tb_frame.f_code.co_filename) == "torch":
                phase = "loss"
            elif name == "backward" and sites.owner(traceback.tb_frame.f_code.co_filename) == "torch":
                phase = "backward"
            traceback = traceback.tb_next
        target = self._target()
        text = _first_line(error)
        known = next((r for r in (*target, *self.orphans) if r.type == type(error).__name__ and r.message == text), None)
        if known is not None:
            known.fatal = True
            if known.phase in {"script", "forward"}:
                known.phase = phase if phase != "script" else known.phase
            known.site = known.site or inner
        else:
            known = Raised(type(error).__name__, text, phase, inner, True)
            target.append(known)
        self.guard.run.exceptions.append(known)
        if _first_sight(error):
            self._post_mortem(error)

    def _note(self, error: BaseException, phase: str, place: Site | None) -> None:
        """Seen on its way up; whether it ends the script is not known yet."""
        target = self._target()
        text = _first_line(error)
        known = next((r for r in (*target, *self.orphans) if r.type == type(error).__name__ and r.site == place), None)
        self.failures += 1
        if self.failures in {3, 6, 12, 24} and self.guard.spied_passes < 24:
            self.guard.spy_left = max(self.guard.spy_left, 8)  # exceptions are being caught: see how many passes end that way
        if known is not None:
            known.count += 1
        elif len(target) < 32:
            target.append(Raised(type(error).__name__, text, phase, place))

    def _target(self) -> list[Raised]:
        current = self.trainings.current
        return current.facts.exceptions if current is not None else self.orphans

    def _post_mortem(self, error: BaseException) -> None:
        """Find the loss call among the frames of a traceback and read its arguments from the frame's locals."""
        traceback = error.__traceback__
        place = None
        while traceback is not None:
            frame = traceback.tb_frame
            kind = sites.owner(frame.f_code.co_filename)
            if kind == "user":
                place = sites.at(frame.f_code.co_filename, traceback.tb_lineno, frame.f_code.co_name)
            name = frame.f_code.co_name
            if kind == "torch" and name in torch_spy.LOSS_FUNCTIONS and "target" in frame.f_locals:
                names = (*torch_spy._PARAMETERS.get(name, ("input", "target")), "reduction")
                arguments = {n: frame.f_locals.get(n) for n in names}
                self._attach_term(self.terms.from_arguments(name, arguments, place))
                return
            traceback = traceback.tb_next

    def _attach_term(self, term: LossTerm) -> None:
        """The loss whose call raised becomes a term of the current training."""
        if self.trainings.current is None:
            self.orphan_terms.append(term)
            del self.orphan_terms[:-4]
            return
        known = self.trainings.current.facts.terms
        same = next((t for t in known if t.kind == term.kind), None)
        if same is None:
            known.append(term)
        else:
            same.labels.outside += term.labels.outside
            if term.labels.outside_example is not None:
                same.labels.outside_example = term.labels.outside_example
            for name in ("lowest", "highest"):
                values = [v for v in (getattr(same.labels, name), getattr(term.labels, name)) if v is not None]
                if values:
                    setattr(same.labels, name, min(values) if name == "lowest" else max(values))
            same.labels.distinct = sorted(set(same.labels.distinct) | set(term.labels.distinct))[:33]
            same.input_shape, same.target_shape = term.input_shape, term.target_shape
            same.values = term.values if not same.values.calls else same.values


def _first_sight(error: BaseException) -> bool:
    """An exception passes several of our wrappers on its way up; ids are recycled, so it carries a mark."""
    try:
        if getattr(error, "_unstuck_seen", False):
            return False
        error._unstuck_seen = True  # type: ignore[attr-defined]
    except AttributeError:
        pass
    return True


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:300]
