"""Which table each role of a template is drawn from, and the words that go with the hero and the friend."""

from __future__ import annotations

from collections.abc import Iterator

from . import creatures, places, things
from .grammar import Row, capital, fill, role_of, with_article

Table = tuple[Row, ...]
Deck = tuple[dict[str, str], ...]
"""A table made ready for telling: for each row, what each slot of its role says."""

CHILD = "child"
"""The kind of a human hero; the kind of any other is its animal."""

PRONOUNS = {
    "she": {"he": "she", "him": "her", "his": "her", "himself": "herself"},
    "he": {"he": "he", "him": "him", "his": "his", "himself": "himself"},
}
SEXES = tuple(PRONOUNS)
ANIMALS = {row["_"]: row for row in creatures.ANIMALS}
_BODIES = {
    True: {"hand": "hand", "hands": "hands", "folk": "children"},
    False: {"hand": "paw", "hands": "paws", "folk": "animals"},
}

_TABLES: dict[str, Table] = {
    "beast": creatures.BEASTS,
    "build": things.BUILDS,
    "clothes": things.CLOTHES,
    "color": things.COLORS,
    "do": places.DOINGS,
    "elder": creatures.ELDERS,
    "feeling": creatures.FEELINGS,
    "flower": things.FLOWERS,
    "food": things.FOODS,
    "gift": things.GIFTS,
    "job": creatures.JOBS,
    "neighbor": creatures.NEIGHBORS,
    "noise": places.NOISES,
    "pet": creatures.PETS,
    "place": places.PLACES,
    "rule": places.RULES,
    "seed": things.SEEDS,
    "skill": places.SKILLS,
    "stranger": creatures.STRANGERS,
    "stuck": places.STUCKS,
    "prize": things.PRIZES,
    "thing": things.THINGS,
    "toy": things.BREAKABLES,
    "trait": creatures.TRAITS,
    "ward": creatures.WARDS,
    "treat": things.TREATS,
    "tree": places.TREES,
    "weather": places.WEATHERS,
    "weekday": things.WEEKDAYS,
}
# Animals live in the wild: these tables take the place of the ones above in their stories.
_WILD_TABLES: dict[str, Table] = {
    "do": places.WILD_DOINGS,
    "job": creatures.OLD_ANIMALS,
    "place": places.WILD_PLACES,
    "skill": places.WILD_SKILLS,
}
ROLES = frozenset(_TABLES)


def tables() -> Iterator[Table]:
    """All tables a role can be drawn from."""
    yield from _TABLES.values()
    yield from _WILD_TABLES.values()
    yield creatures.ANIMALS


def _person(sex: str, kind: str) -> Row:
    """The words that depend only on who somebody is: pronouns, what they are called, their body and home."""
    own = PRONOUNS[sex]
    if kind == CHILD:
        return {**own, **_BODIES[True], "boy": "girl" if sex == "she" else "boy", "home": "house", "coat": ""}
    animal = ANIMALS[kind]
    coat = animal["coat"].replace("{his}", own["his"])
    return {**own, **_BODIES[False], "boy": kind, "home": animal["home"], "coat": coat}


def person_slots(sex: str, kind: str, prefix: str = "") -> dict[str, str]:
    """What the slots of the hero (``{he}``, ``{A boy}``) or, behind ``prefix``, of another say (``{F.he}``)."""
    slots = {}
    for name, word in _person(sex, kind).items():
        slots[f"{{{prefix}{name}}}"] = word
        slots[f"{{{prefix}{capital(name)}}}"] = capital(word)
        slots[f"{{a {prefix}{name}}}"] = with_article(word)
        slots[f"{{A {prefix}{name}}}"] = capital(with_article(word))
    return slots


def deck(role: str, slots: set[str], sex: str, wild: bool) -> Deck:
    """The table of ``role`` ready for a hero of this sex, with the slots of ``slots`` that are that role's.

    A numbered role (``trait2``) is drawn anew from the table of the plain one. Raises KeyError for an unknown role.
    """
    name = role.rstrip("0123456789")
    rows = (_WILD_TABLES if wild else {}).get(name) or _TABLES[name]
    hero = {f"{{{key}}}": word for key, word in {**PRONOUNS[sex], **_BODIES[not wild]}.items()}
    hero |= {slot[0] + slot[1].upper() + slot[2:]: capital(word) for slot, word in hero.items()}
    own = sorted(slot for slot in slots if role_of(slot) == role)
    return tuple({slot: fill(slot, row, hero) for slot in own} for row in rows)
