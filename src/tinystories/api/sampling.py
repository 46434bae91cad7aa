"""The choices of sampling, and their bounds. Without PyTorch, so that a wrong value is refused at once."""

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tinystories.common.errors import UserError

DEFAULT_LENGTH = 500  # most stories end before
MAX_LENGTH = 100_000
MAX_SEED = 2**63 - 1
MAX_STORIES = 1_000  # side by side


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn: from the `top_k` likeliest, and of these from the share `top_p`, at a temperature.

    Errors: UserError for a value out of its bounds.
    """

    top_k: int = 40
    top_p: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check("top_k", self.top_k, self.top_k >= 1, "at least 1, which always takes the likeliest token")
        _check("top_p", self.top_p, 0 < self.top_p <= 1, "greater than 0 and at most 1, which leaves no token out")
        in_bounds = math.isfinite(self.temperature) and 0 <= self.temperature <= 100
        _check("temperature", self.temperature, in_bounds, "from 0, which always takes the likeliest token, to 100")

    def changed(self, values: Mapping[str, object]) -> "Sampling":
        """Return these choices with those of `values` that are numbers in place of its own."""
        known = {name: values.get(name) for name in ("top_k", "top_p", "temperature")}
        return replace(self, **{name: value for name, value in known.items() if type(value) in (int, float)})  # type: ignore[arg-type]


def check_length(length: int) -> None:
    """Check how many tokens are wanted. Errors: UserError."""
    _check("length", length, 1 <= length <= MAX_LENGTH, f"from 1 to {MAX_LENGTH:,} tokens")


def check_seeds(seeds: Sequence[int]) -> None:
    """Check the seeds of as many stories. Errors: UserError."""
    for seed in seeds:
        _check("seed", seed, 0 <= seed <= MAX_SEED, "from 0 to 2^63 - 1")
    _check_number(len(seeds))


def seeds_from(first: int | None, n: int) -> list[int]:
    """Return `n` seeds, one after another from the first, or from a random one. Errors: UserError."""
    first = secrets.randbelow(2**32) if first is None else first
    check_seeds([first])
    _check_number(n)
    return [(first + number) % (MAX_SEED + 1) for number in range(n)]


def _check_number(n: int) -> None:
    _check("n", n, 1 <= n <= MAX_STORIES, f"from 1 to {MAX_STORIES:,} stories at once")


def _check(name: str, value: float, fits: bool, right: str) -> None:
    if not fits:
        raise UserError(f"{name} is {value:,}; it should be {right}")
