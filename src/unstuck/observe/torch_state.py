"""What is kept in memory of one training."""

from __future__ import annotations

import time
import weakref
from typing import Any

import torch

from unstuck.observe import torch_data, torch_graph, torch_probes, torch_values
from unstuck.observe.torch_values import NAN
from unstuck.trace.facts import Facts, LossTerm, ModeLayer, Optimizer, Parameter, Probe, Site

MAX_PARAMETERS = 2000  # weights that are kept track of


class Recipe:
    """How to read the judged term of one graph shape: edges from the root to the nodes that hold the numbers."""

    def __init__(self) -> None:
        self.term: LossTerm | None = None
        self.labels: torch_values.Labels | None = None
        self.route: tuple[int, ...] = ()
        self.pick: tuple[int, ...] | None = None
        self.name = ""
        self.alone = False  # the root is this term, perhaps summed
        self.exact = False  # root == this term, reduced by the mean
        self.flags: frozenset[str] = frozenset()
        self.first_flags: frozenset[str] = frozenset()  # of the branch that `route` and `pick` follow
        self.reached: frozenset[int] = frozenset()
        self.places: list[tuple[str, Site | None]] = []  # node names and lines in the order of the walk, when spied
        self.root = ""  # name of the graph's root node
        self.flat = False  # the path runs through an operation with derivative zero
        self.data_route: tuple[int, ...] | None = None  # edges from the root to the first layer that data enters

    def under(self, node: Any) -> Any:
        """What enters the term: the node below `node`, which holds its numbers."""
        if "fused" in self.flags:
            node, _ = torch_graph.skip_views(next(iter(torch_graph.children(node)), None))
        return next(iter(torch_graph.children(node)), None) if node is not None else None


class State:
    """What is kept in memory of one training."""

    def __init__(self, number: int) -> None:
        self.facts = Facts(id=number, framework=f"torch {torch.__version__}")
        self.recipes: dict[tuple[str, ...], Recipe] = {}
        self.labels: list[torch_values.Labels] = []
        self.signature: tuple[Any, ...] = ()
        self.parameters: dict[int, tuple[weakref.ref[Any], Parameter]] = {}
        self.checksums: dict[int, int] = {}
        self.optimizers: dict[int, tuple[weakref.ref[Any], Optimizer]] = {}
        self.levels: list[torch_values.Level] = []
        self.pending = 0  # backward calls since the last step
        self.rows = 0
        self.steps = 0
        self.left_gradient: bool | None = None
        self.stale_probe: list[tuple[Any, int, int]] = []
        self.stale_pending = False
        self.first_since_step = True
        self.anchor_version: tuple[weakref.ref[Any], int] | None = None
        self.reference: tuple[weakref.ref[Any], Any] | None = None
        self.pending_reached: set[int] = set()
        self.last_term: LossTerm | None = None  # of the latest backward
        self.stepped: set[int] = set()  # optimizers that stepped since the last backward
        self.sole: Recipe | None = None
        self.glance = NAN
        self.by_hand: list[tuple[weakref.ref[Any], Any, Any]] = []  # tensor, its values, its gradient
        self.began = time.monotonic()
        self.data = torch_data.Data(self.facts)
        self.modes: dict[int, tuple[weakref.ref[Any], ModeLayer]] = {}
        self.tape: torch_probes.Tape | None = None  # of the latest probed step
        self.probing: Probe | None = None
        self.fresh_tape = False  # it belongs to the backward that the next step follows
        self.norm_left: dict[int, float] | None = None  # of each gradient when the backward had ended, at deep steps
        self.clipped = False  # torch's own clipping ran since the backward
        self.clip_factor = 1.0  # norm of the gradient before clipping over the norm after it
        self.first_step = self.last_step = 0.0  # when the first and the latest looked-at step ended
        self.own_at_first_step = 0.0

    def forget_weights(self) -> None:
        """They are gone, or were replaced by others."""
        self.parameters.clear()
        self.checksums.clear()
        self.facts.parameters.clear()

    @property
    def step(self) -> int:
        """The number of the step that the present backward belongs to."""
        loop = self.facts.loop
        return loop.steps + 1 if loop.steps or not loop.functional else loop.backwards
