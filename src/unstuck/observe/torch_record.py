"""What is known of a training, written into its trace: one row for each step, and the facts now and then."""

from __future__ import annotations

from unstuck.observe import torch_values
from unstuck.observe.torch_loaders import Loaders
from unstuck.observe.torch_state import State
from unstuck.observe.torch_trainings import Trainings
from unstuck.observe.torch_values import NAN
from unstuck.trace.facts import Facts, Run
from unstuck.trace.writer import Writer


class Record:
    """The writer, until it fails."""

    def __init__(self, writer: Writer | None, run: Run, trainings: Trainings, loaders: Loaders) -> None:
        self.writer = writer
        self.run = run
        self.trainings = trainings
        self.loaders = loaders

    def row(self, state: State, lr: float = NAN, predicted: float = NAN, norm: float = NAN, ratio: float = NAN) -> None:
        """The numbers of the backward calls since the last row, and those of the step that followed them."""
        levels = state.levels or ([torch_values.Level(state.glance, NAN, NAN, NAN)] if not self.trainings.looking else [])
        if not levels and not state.pending and lr != lr:
            return
        n = len(levels)
        if n > 1:  # several micro-batches; where only some were read, those are the sample
            levels = [v for v in levels if v.chance == v.chance] or levels
            n = len(levels)
        if n == 1:
            loss, chance, base, accuracy = levels[0]
        elif n:
            loss, chance, base, accuracy = (sum(column) / n for column in zip(*levels))
        else:
            loss = chance = base = accuracy = NAN
        state.rows += 1
        if self.writer is not None:
            try:
                self.writer.row(
                    state.facts.id,
                    state.rows,
                    (loss, chance, base, accuracy, lr, predicted, norm, ratio, float(state.pending)),
                )
                self.writer.tick()
            except OSError as error:
                self.lost_writer(error)
        state.levels = []
        state.pending = 0

    def snapshot(self, state: State, final: bool = False) -> None:
        """All facts as they are now."""
        for labels in state.labels:
            labels.publish()
        _judge(state.facts)
        state.facts.loaders = self.loaders.known
        due = state.data.due(final)
        if due:
            state.data.publish()
        if self.writer is not None:
            try:
                if due:
                    state.data.write(self.writer.directory)
                self.writer.facts(state.facts)
                self.writer.run(self.run)
            except OSError as error:
                self.lost_writer(error)

    def lost_writer(self, error: OSError) -> None:
        self.run.notes.append(f"the trace could not be written any further: {error.strerror}")
        self.writer = None


def _judge(facts: Facts) -> None:
    """Does the level of the loss say anything about this training?"""
    loop = facts.loop
    loop.unjudged = ""
    if loop.adversarial:
        loop.unjudged = "two optimizers share a loss (adversarial or alternating training): its level says nothing"
    elif (term := facts.term) is not None and term.sample_weighted and term.why_not:
        loop.unjudged = term.why_not
