"""The grammar: inflection, plots as text, slots, and mistakes in them."""

from __future__ import annotations

import pytest

from tinystories.sources.storygen import (
    grammar,
)


@pytest.mark.parametrize(
    ("verb", "past", "gerund"),
    [
        ("fly kites", "flew kites", "flying kites"),
        ("skip", "skipped", "skipping"),
        ("tie a knot", "tied a knot", "tying a knot"),
        ("bake", "baked", "baking"),
        ("carry", "carried", "carrying"),
        ("play chess", "played chess", "playing chess"),
    ],
)
def test_past_and_gerund(verb, past, gerund):
    assert (grammar.past(verb), grammar.gerund(verb)) == (past, gerund)


@pytest.mark.parametrize(
    ("noun", "plural"), [("toy boat", "toy boats"), ("mouse", "mice"), ("berry", "berries"), ("box", "boxes")]
)
def test_plural(noun, plural):
    assert grammar.plural(noun) == plural


def test_with_article():
    phrases = ["owl", "unicorn", "hour", "huge owl", "old hat"]
    assert [grammar.with_article(phrase) for phrase in phrases] == [
        "an owl", "a unicorn", "an hour", "a huge owl", "an old hat",
    ]  # fmt: skip


def test_parse_plot():
    text = 'Once {H} had {a thing}.\n\n--\n?bad\n"It [broke|cracked]," {he} said.\n\n--\n!bad\n{Thing.s} are fun.\n~'
    paragraphs = grammar.parse(text, {})
    bad = grammar.beats_for(paragraphs, frozenset({"bad"}))
    assert bad[1] == ((("\n", '"It broke," ', "{he}", " said."), ("\n", '"It cracked," ', "{he}", " said.")),)
    good = grammar.beats_for(paragraphs, frozenset())
    assert good[1] == ((("\n", "{Thing.s}", " are fun."),), ((),))
    assert grammar.slots_for(paragraphs, frozenset()) == {"{H}", "{a thing}", "{Thing.s}"}
    assert grammar.slots_for(paragraphs, frozenset({"bad"})) == {"{H}", "{a thing}", "{he}"}
    row = grammar.table("_ | use", "berry | eat it with {his} friend")[0]
    assert [grammar.fill(slot, row, {"{his}": "her"}) for slot in ("{Thing.s}", "{a thing}", "{thing.use}")] == [
        "Berries", "a berry", "eat it with her friend",
    ]  # fmt: skip


def test_paragraphs_begin_with_no_name():
    text = "{H} ran.\n{F} ran.\nThey ran.\n\n{F} fell.\n\n--\n?bad\n{H} cried.\nSo {H} cried.\n\n{H} slept.\nAll slept."
    paragraphs = grammar.parse(text, {})
    they_ran, fell, all_slept = ((("", "They ran."),),), (((" ", "{F}", " fell."),),), ((("\n", "All slept."),),)
    assert grammar.beats_for(paragraphs, frozenset()) == (they_ran, fell, all_slept)
    cried, slept = (((("\n", "So ", "{H}", " cried."),),), (((" ", "{H}", " slept."),), ((" ", "All slept."),)))
    assert grammar.beats_for(paragraphs, frozenset({"bad"})) == (they_ran, fell, cried, slept)
    with pytest.raises(ValueError, match="only begin with a name"):
        grammar.beats_for(grammar.parse("{H} ran.\n{F} ran.", {}), frozenset())


def test_grammar_refuses_mistakes():
    with pytest.raises(ValueError, match="1 cells under"):
        grammar.table("_ | use", "berry")
    with pytest.raises(ValueError, match="bad slot"):
        grammar.role_of("{two words here}")
    with pytest.raises(ValueError, match="no column 'color'"):
        grammar.fill("{thing.color}", {"_": "ball"}, {})
