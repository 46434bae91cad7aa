"""Many stories, for all tests of the generator."""

import pytest

from tests.support.storygen import MANY, SEED
from tinystories.sources.storygen import stories


@pytest.fixture(scope="session")
def many() -> list[str]:
    return list(stories(SEED, 0, MANY))
