"""Drawing stories: bounds, seeds alone and side by side, ends, long prompts."""

from itertools import pairwise

import pytest

from tinystories.api import stories as module
from tinystories.api.sampling import MAX_SEED, Sampling, seeds_from
from tinystories.api.stories import Story, draw_stories
from tinystories.common.errors import UserError
from tinystories.inference.generate import generate


@pytest.fixture(scope="module")
def model(random_model):
    return random_model().inference_copy()


@pytest.fixture
def draw(model, tokenizer):
    def draw(prompt="One day", seeds=(3,), length=30, **sampling) -> list[Story]:
        *_, last = draw_stories(model, tokenizer, prompt, seeds, length, Sampling(top_k=300).changed(sampling))
        return last

    return draw


def test_draw_is_what_generate_gives(model, tokenizer, draw):
    (story,) = draw(length=40, seeds=[5])
    prompt = [0, *tokenizer.encode("One day", add_special_tokens=False).ids]
    (ids,) = generate(model, [prompt], max_new_tokens=40, temperature=1.0, top_k=300, seeds=[5])
    assert (story.text, story.tokens) == (tokenizer.decode(ids), len(ids))


SEEDS = (7, 1, 2)


def test_draw_alone_and_among_others(draw):
    together = draw(seeds=SEEDS, length=150)
    assert together == [draw(seeds=[seed], length=150)[0] for seed in SEEDS]
    assert {story.ended for story in together} == {True, False}, "some end before others"
    assert all(story.finished and (story.ended or story.tokens == 150) for story in together)


def test_draw_grows_step_by_step(model, tokenizer):
    seen = [
        [(story.text, story.tokens) for story in stories]
        for stories in draw_stories(model, tokenizer, "", [1, 2], 10, Sampling())
    ]
    assert len(seen) == 10
    for number in (0, 1):
        texts = [step[number][0] for step in seen]
        assert all(later.startswith(text) for text, later in pairwise(texts))


def test_draw_reads_the_end_of_a_long_prompt(draw):
    long = "Once there was a little ball. " * 50
    assert draw(long)[0].text == draw("Another beginning. " + long)[0].text


def test_temperature_0_takes_the_likeliest(draw):
    assert draw(temperature=0.0, seeds=[1])[0].text == draw(top_k=1, seeds=[2])[0].text


def test_draw_compiles_where_it_pays(draw, monkeypatch):
    calls = []
    monkeypatch.setattr(module, "compile_kernels", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(module, "COMPILE_FROM_TOKENS", 40)
    draw(length=39)
    assert calls == []
    draw(length=20, seeds=[1, 2])
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": float("nan")}, "temperature is nan; it should be from 0"),
        ({"temperature": -1}, "temperature is -1; it should"),
        ({"temperature": 101}, "temperature is 101; it should"),
        ({"top_k": 0}, "top_k is 0; it should be at least 1"),
        ({"top_p": 0}, "top_p is 0; it should be greater than 0"),
        ({"top_p": 1.01}, "top_p is 1.01; it should"),
        ({"length": 0}, "length is 0; it should be from 1 to 100,000"),
        ({"length": 100_001}, "length is 100,001; it should"),
        ({"seeds": [-1]}, "seed is -1; it should be from 0"),
        ({"seeds": [2**63]}, "seed is 9,223,372,036,854,775,808; it should"),
        ({"seeds": []}, "n is 0; it should be from 1 to 1,000"),
        ({"seeds": range(1001)}, "n is 1,001; it should"),
    ],
)
def test_draw_refuses_values_out_of_bounds(draw, values, message):
    with pytest.raises(UserError) as error:
        draw(**values)
    assert str(error.value).startswith(message)


def test_seeds_follow_one_another():
    assert seeds_from(7, 3) == [7, 8, 9]
    assert seeds_from(MAX_SEED, 2) == [MAX_SEED, 0]
    assert seeds_from(None, 1) != seeds_from(None, 1)


def test_sampling_takes_the_numbers_of_a_file():
    """As generation_config.json has them, among others; null and a text are none."""
    values = {"top_k": 7, "temperature": 0.5, "top_p": None, "do_sample": True, "max_new_tokens": 3}
    assert Sampling().changed(values) == Sampling(top_k=7, temperature=0.5)
    assert Sampling().changed({"top_k": "7"}) == Sampling()
