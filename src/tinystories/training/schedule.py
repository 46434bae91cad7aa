"""The learning-rate schedule: linear warmup, constant, linear cooldown to 0."""

from tinystories.common.console import plural, warn
from tinystories.common.params import Train


def lr_factor(step: int, train: Train) -> float:
    """Return the factor on both peak learning rates at this step (from 0), computed in float64."""
    rise = (step + 1) / train.warmup_steps if train.warmup_steps else 1.0
    return min(rise, _fall(step, train), 1.0)


def trunk_end(train: Train) -> int:
    """Return how many steps come before the cooldown. Until there no factor depends on the training's length."""
    step = max(int(train.steps - train.cooldown * train.steps) - 1, 0)  # a little early, because floats round
    while step < train.steps and _fall(step, train) >= 1:
        step += 1
    return step


def warn_of_long_warmup(train: Train) -> None:
    """Warn where the rates never reach their peak."""
    if train.warmup_steps > max(trunk_end(train), 1):
        warn(
            f"train.warmup_steps is {train.warmup_steps:,}, and the cooldown begins after "
            f"{plural(trunk_end(train), 'step')}: the learning rate does not reach its peak; about a hundredth of all: "
            f"dvc exp run -S train.warmup_steps={train.steps // 100}"
        )


def _fall(step: int, train: Train) -> float:
    cooldown_steps = train.cooldown * train.steps
    return (train.steps - step) / cooldown_steps if cooldown_steps else 1.0
