"""The mechanical change for each kind of intervention: pure functions of a source file, the lines a finding names, and arguments.

Each edit returns an Edit (spans of text) or raises Cannot with the reason, as the end of the sentence "no machine can make this
change: ...". It changes what the finding's lines show and nothing else; where it would have to guess, it does not.

  safe     the program means the same, only right: nothing to decide
  unsafe   somebody has to agree: another number, another loss, another optimizer
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unstuck.repair.edits_loop import (
    adaptive_optimizer,
    call_step,
    clip_gradients,
    constant_learning_rate,
    keep_gradients,
    no_clipping,
    scale_clipping,
    scale_learning_rate,
    scale_weight_decay,
    set_learning_rate,
    train_mode,
    zero_before_backward,
)
from unstuck.repair.edits_loss import (
    align_targets,
    change_dim,
    class_weights,
    insert_activation,
    mean_reduction,
    negate_loss,
    remove_activation,
    replace_loss,
    scale_loss,
    transpose_classes,
)
from unstuck.repair.edits_model import (
    add_activation,
    add_parameters,
    batch_statistics,
    full_precision,
    reattach,
    reinitialise,
    set_dropout,
    shuffle,
    unfreeze,
    widen,
)
from unstuck.repair.reading import Arguments, Edit
from unstuck.repair.source import Source

EDITS: dict[str, Callable[[Source, Sequence[int], Arguments], Edit]] = {
    "remove-activation": remove_activation,
    "insert-activation": insert_activation,
    "replace-loss": replace_loss,
    "negate-loss": negate_loss,
    "change-dim": change_dim,
    "transpose-classes": transpose_classes,
    "align-targets": align_targets,
    "scale-learning-rate": scale_learning_rate,
    "set-learning-rate": set_learning_rate,
    "constant-learning-rate": constant_learning_rate,
    "adaptive-optimizer": adaptive_optimizer,
    "zero-before-backward": zero_before_backward,
    "keep-gradients-until-step": keep_gradients,
    "call-step": call_step,
    "add-parameters": add_parameters,
    "unfreeze": unfreeze,
    "reattach": reattach,
    "reinitialise": reinitialise,
    "shuffle": shuffle,
    "class-weights": class_weights,
    "scale-weight-decay": scale_weight_decay,
    "set-dropout": set_dropout,
    "clip-gradients": clip_gradients,
    "scale-clipping": scale_clipping,
    "no-clipping": no_clipping,
    "train-mode": train_mode,
    "batch-statistics": batch_statistics,
    "full-precision": full_precision,
    "mean-reduction": mean_reduction,
    "scale-loss": scale_loss,
    "widen": widen,
    "add-activation": add_activation,
}
