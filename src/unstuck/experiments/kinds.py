"""The interventions that can be tried on a running training, by kind. Imports nothing: a rule or a verb may ask.

`file` and `line`, where a kind takes them, name the call in the user's code, or the line that constructed the module.
What is only shown to a reader (`reattach`, `permute-axes`) is not in the list.
"""

from __future__ import annotations

TOGETHER = "together"

MEANING: dict[str, str] = {
    TOGETHER: "Several interventions at once (fixes: a JSON list of them).",
    "placebo": "Every hook of the interventions runs; the mathematics stays as it is.",
    # the loss and what leads to it
    "remove-activation": "The activation made or run at file:line hands its input on (arguments: activation, file, line, call).",
    "insert-activation": "The input of the loss goes through an activation first (activation, dim).",
    "replace-loss": "The loss call is replaced by cross_entropy or bce_with_logits on the head's logits (loss, from).",
    "negate-loss": "The training descends where it ascended.",
    "scale-loss": "The gradient of the loss is multiplied by a factor (factor).",
    "mean-reduction": 'Losses with reduction="sum" take the mean.',
    "change-dim": "The softmax at file:line is taken over another axis (dim).",
    "transpose-classes": "A loss input [B, ..., C] becomes [B, C, ...].",
    "align-targets": "The targets take the shape of the loss input.",
    "class-weights": "The loss weighs the classes (weights).",
    # the loop
    "scale-learning-rate": "Every step is taken with the learning rate times a factor (factor).",
    "set-learning-rate": "Every step is taken with this learning rate (lr).",
    "constant-learning-rate": "Every step is taken with the learning rate that the optimizer was made with.",
    "adaptive-optimizer": "Adam with learning rate 1e-3 steps in place of plain SGD (lr).",
    "zero-before-backward": "Gradients are zeroed before the first backward after a step.",
    "keep-gradients-until-step": "Zeroing between backward and step is put off until after the step.",
    "call-step": "The optimizer steps after each backward.",
    "add-parameters": "Tensors that get gradients and are in no optimizer join one.",
    "scale-weight-decay": "Every step is taken with the weight decay times a factor (factor).",
    "clip-gradients": "The gradient's norm is clipped before each step (norm).",
    "scale-clipping": "The threshold of the clipping is multiplied by a factor (factor).",
    "no-clipping": "Gradients are not clipped.",
    # the model
    "unfreeze": "All parameters of the models that are trained require gradients, and an optimizer holds them.",
    "reinitialise": "The weights start anew from torch's own initialisation (scale: a factor on them).",
    "set-dropout": "Dropout stronger than p is p (p).",
    "train-mode": "The model is in training mode at each forward pass that records gradients.",
    "batch-statistics": "Batch norms use the batch's statistics in training, and momentum 0.1.",
    "full-precision": "What was cast to half precision or bfloat16 stays float32.",
    "widen": "The narrowest hidden layer of a plain nn.Sequential stack gets more units (layer, width).",
    "add-activation": "ReLU between linear layers that follow each other directly.",
    "rectify-sigmoids": "ReLU in place of a sigmoid between layers; one before a loss stays.",
    # the data
    "standardise-inputs": "Inputs get mean 0 and standard deviation 1 by the statistics of the first batches.",
    "shift-labels": "Input i is paired with label i + offset (offset, way: open, cyclic, batch).",
    "shuffle": "A DataLoader made without shuffling draws its samples in random order (file, line).",
}

SUPPORTED: frozenset[str] = frozenset(MEANING)

# Kinds that only Keras' experiments carry out.
KERAS_MEANING: dict[str, str] = {
    "resize-head": "The layer made at file:line has another number of outputs (units, file, line).",
    "renumber-labels": "A whole number is added to each label (offset).",
}
# ... and those that they do not, with the reason.
NOT_IN_KERAS: dict[str, str] = {
    "zero-before-backward": "Keras keeps no gradients from one step to the next",
    "keep-gradients-until-step": "Keras keeps no gradients from one step to the next",
    "call-step": "fit and train_on_batch step themselves; a loop written by hand cannot be changed from outside",
    "add-parameters": "Keras gives its optimizer all weights that are trained",
    "transpose-classes": "Keras' losses take the classes on the last axis",
}
KERAS: frozenset[str] = (SUPPORTED | frozenset(KERAS_MEANING)) - frozenset(NOT_IN_KERAS)
