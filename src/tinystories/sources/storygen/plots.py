"""The list of all plots. To add one, write its text (see ``grammar``) and put a line here."""

from __future__ import annotations

from dataclasses import dataclass

from . import plots_effort, plots_fear, plots_friends, plots_loss, plots_making, plots_together
from .grammar import Paragraphs, parse
from .shared import SHARED


@dataclass(frozen=True)
class Plot:
    """A plot, and the slot whose word is the drawn noun; ``.adj`` of it is the drawn adjective."""

    name: str
    paragraphs: Paragraphs
    noun: str


PLOTS = tuple(
    Plot(name, parse(text, SHARED), noun)
    for name, text, noun in (
        ("a lost thing", plots_loss.LOST, "thing"),
        ("a promise", plots_loss.PROMISE, "thing"),
        ("a present that breaks", plots_making.GIFT, "gift"),
        ("a seed that grows", plots_making.SEED, "seed"),
        ("a quarrel", plots_friends.QUARREL, "toy"),
        ("a trick that backfires", plots_friends.TRICK, "thing"),
        ("sharing", plots_friends.SHARE, "food"),
        ("building together", plots_together.BUILD, "build"),
        ("a race", plots_together.RACE, "prize"),
        ("a surprise party", plots_together.PARTY, "prize"),
        ("a forbidden thing", plots_fear.FORBIDDEN, "rule"),
        ("learning a skill", plots_effort.SKILL, "thing"),
        ("somebody stuck", plots_effort.STUCK, "thing"),
        ("a feared stranger", plots_fear.VISITOR, "thing"),
        ("the way home", plots_effort.JOURNEY, "thing"),
        ("a noise at night", plots_fear.FEAR, "noise"),
    )
)
