"""Which stories keep their hero's name and whose names are girls', and the table of a checkpoint."""

from pathlib import Path

import pytest

from benchmarks import heroes
from tinystories.sources.storygen import stories
from tinystories.sources.storygen.names import FRIENDS, HEROES


def test_hero_is_kept() -> None:
    assert all(map(heroes.kept_hero, stories(seed=1, start=0, count=300)))
    assert heroes.kept_hero("Tom saw Owen. Tom's dog saw the old dragon.")  # Owen is a friend's name
    assert not heroes.kept_hero("Owen saw the old dragon.")
    assert not heroes.kept_hero('Tom was sad. "Go on," said Lily.')


def test_girls_have_girls_names() -> None:
    """In the generator's stories all, of those who are no animals."""
    texts = list(stories(seed=1, start=0, count=300))
    for names in (HEROES, FRIENDS):
        found = [fit for text in texts for fit in heroes.sexes_fit(text, names)]
        assert all(found) and len(found) > 80
    text = 'A girl lived in Oakham. Her name was Tom. "I am lost," said a kind boy named Owen. Priya, a tidy boy, ran.'
    assert (heroes.sexes_fit(text, HEROES), heroes.sexes_fit(text, FRIENDS)) == ([False], [True, False])


def test_every_way_of_sampling_has_a_row(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heroes, "LENGTH", 20)
    rows = heroes.measure(checkpoint)["rows"]
    assert [(row["temperature"], row["top-k"]) for row in rows] == [(0.6, 40), (0.8, 40), (1.0, "all")]
    assert all(float(row["hero's name"].removesuffix("%")) < 20 for row in rows)  # a random model names few
