"""The harness of the fuzz tests: how many inputs are tried, and what counts as a clear refusal.

FUZZ_EXAMPLES sets how many inputs each test tries.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, Phase, settings

from tinystories.common.errors import UserError

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))

tried: Counter[str] = Counter()
refused: Counter[str] = Counter()
slowest: dict[str, float] = {}


def fuzz(fraction: float = 1.0) -> Callable[[Any], Any]:
    """`fraction`: of EXAMPLES, for slow tests. The suite always tries the same inputs, a campaign new ones."""
    return settings(
        max_examples=max(int(EXAMPLES * fraction), 3),
        derandomize="FUZZ_EXAMPLES" not in os.environ,
        database=None,
        deadline=None,
        phases=[Phase.generate],  # to find the smallest input can take longer than the whole campaign
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Count an input; a UserError in the block is fine, if it is one line that a terminal can show."""
    tried[what] += 1
    start = time.monotonic()
    try:
        yield
    except UserError as error:
        refused[what] += 1
        message = str(error)
        assert message.isprintable(), message
        assert len(message) < 600, message
    slowest[what] = max(slowest.get(what, 0.0), time.monotonic() - start)
