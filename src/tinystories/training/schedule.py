"""The learning-rate schedule: linear warmup, constant, linear cooldown to 0."""

from tinystories.common.params import Train


def lr_factor(step: int, train: Train) -> float:
    """Return the factor on both peak learning rates at this step (from 0), computed in float64."""
    warmup_steps, cooldown_steps = train.warmup * train.steps, train.cooldown * train.steps
    rise = (step + 1) / warmup_steps if warmup_steps else 1.0
    fall = (train.steps - step) / cooldown_steps if cooldown_steps else 1.0
    return min(rise, fall, 1.0)
