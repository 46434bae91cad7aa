"""One training as MLflow has recorded it: what is read from the record, and what is compared and drawn."""

from typing import NamedTuple


class Score(NamedTuple):
    """What the validation stories said of the model after so many tokens."""

    tokens: float
    loss: float
    bits_per_byte: float


class RecordedRun(NamedTuple):
    """One run. `started`: milliseconds since 1970. `validation`: digest of its validation stories, once published."""

    id: str
    name: str
    status: str  # MLflow's: FINISHED, RUNNING, KILLED, FAILED
    started: int
    params: dict[str, str]
    environment: dict[str, str]
    validation: str | None
    losses: list[tuple[float, float]]  # of the training, by tokens
    scores: list[Score]  # after each epoch, the last as the stage evaluate has it
