"""Continuing a text, and the page of samples."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tinystories.generation import generate
from tinystories.model import GPT
from tinystories.params import Model as Shape
from tinystories.samples import sample_page


@pytest.fixture(scope="module")
def model(random_model: Callable[..., GPT]) -> GPT:
    return random_model()


def draw(model: GPT, prompt: list[int], **values: Any) -> list[int]:
    return generate(model, prompt, **{"max_new_tokens": 30, "temperature": 1.0, "top_k": 300, "seed": 0, **values})


def never_ending(model: GPT) -> GPT:
    """A copy that never has the end-of-text among its likeliest few: its logit is always 0."""
    copy = model.frozen()
    copy.embedding[0] = 0
    return copy


def test_a_seed_draws_the_same_tokens(model):
    first, again = (draw(model, [0], seed=3) for _ in range(2))
    assert first == again
    assert len({tuple(draw(model, [0], seed=seed)) for seed in range(5)}) == 5


def test_drawing_leaves_other_random_numbers_alone(model):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    draw(model, [0])
    assert torch.equal(torch.rand(1), expected)


def test_the_likeliest_token_each_time(model):
    tokens = [0, 5]
    greedy = never_ending(model)
    with torch.no_grad():
        while len(tokens) < 12:
            tokens.append(int(greedy(torch.tensor([tokens]))[0, -1].argmax()))
    assert draw(greedy, [0, 5], top_k=1, max_new_tokens=10, seed=1) == tokens[2:]
    # A temperature of almost nothing draws the same.
    assert draw(greedy, [0, 5], temperature=1e-4, max_new_tokens=10, seed=2) == tokens[2:]


@pytest.mark.parametrize("context", [2, 3, 4, 12])
@pytest.mark.parametrize("prompt", [1, 2, 3, 11, 12, 13, 40])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_cache_changes_nothing(random_model, context, prompt, seed):
    """Also where prompt and continuation outgrow the context several times."""
    model = never_ending(random_model(Shape(context_length=context, embedding_size=24, layers=3, heads=2)))
    cached, plain = (
        draw(model, list(range(1, prompt + 1)), max_new_tokens=50, top_k=5, seed=seed, cached=cached)
        for cached in (True, False)
    )
    assert cached == plain
    assert len(cached) == 50


def test_within_the_context_every_token_counts(model):
    """A text that just fits is read whole: changing its first token changes what follows."""
    steady = never_ending(model)
    texts = [[first, *range(20, 31)] for first in range(1, 9)]
    assert all(len(text) == model.shape.context_length for text in texts)
    with torch.no_grad():
        expected = [int(steady(torch.tensor([text]))[0, -1].argmax()) for text in texts]
    assert [draw(steady, text, top_k=1, max_new_tokens=1)[0] for text in texts] == expected


def test_a_prompt_longer_than_the_context_is_read_from_its_later_half(model):
    steady = never_ending(model)
    prompt = list(range(1, 101))
    assert draw(steady, prompt, top_k=5, seed=4) == draw(steady, prompt[-6:], top_k=5, seed=4)


def test_the_model_never_sees_more_than_its_context(model, monkeypatch):
    seen = []
    forward = GPT.forward

    def watched(self: GPT, tokens: Tensor, cache: Any = None) -> Tensor:
        logits = forward(self, tokens, cache)
        seen.append(cache.length if cache else tokens.shape[1])
        return logits

    monkeypatch.setattr(GPT, "forward", watched)
    draw(never_ending(model), [1], max_new_tokens=40, top_k=5)
    assert max(seen) == 12
    assert seen[:12] == list(range(1, 13)), "it is used in full before anything is dropped"
    assert min(seen[12:]) == 6


def test_it_stops_at_the_end_of_the_story(model):
    ends = [draw(model, [0], max_new_tokens=2_000, seed=seed) for seed in range(3)]
    for tokens in ends:
        assert tokens[-1] == 0
        assert 0 not in tokens[:-1]
        assert len(tokens) < 2_000


def test_it_stops_after_so_many_tokens(model):
    assert len(draw(never_ending(model), [1], max_new_tokens=7, top_k=5)) == 7


def test_only_the_likeliest_are_drawn(model):
    with torch.no_grad():
        best = set(model(torch.tensor([[7]]))[0, -1].topk(3).indices.tolist())
    assert {draw(model, [7], max_new_tokens=1, top_k=3, temperature=50.0, seed=seed)[0] for seed in range(60)} == best


def test_more_than_the_vocabulary_are_all_of_it(model):
    assert draw(model, [1], top_k=65_536, seed=2) == draw(model, [1], top_k=300, seed=2)


def test_drawn_as_often_as_likely(model):
    with torch.no_grad():
        shares = (model(torch.tensor([[7]]))[0, -1] / 2.0).softmax(-1)
    best = int(shares.argmax())
    drawn = [draw(model, [7], max_new_tokens=1, temperature=2.0, seed=seed)[0] for seed in range(400)]
    assert drawn.count(best) / 400 == pytest.approx(shares[best].item(), abs=0.08)


def test_it_can_be_stopped_between_tokens(model):
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(never_ending(model), [1], top_k=5, check=check)
    assert len(calls) == 4


def test_a_page_keeps_prompt_and_continuation_apart(model, tokenizer, small_params):
    page = sample_page(model, tokenizer, small_params.sample, seed=5, title="After epoch 1")
    assert page.startswith("# After epoch 1\n\ntop-k 40, temperature 0.8, seed 5\n")
    titles = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert titles == ["Prompt 1", "Prompt 2", "Prompt 3", "Free start"]
    for number, section in enumerate(page.split("\n## ")[1:]):
        before, _, after = section.partition("**Continuation**")
        given = [*small_params.sample.prompts, None][number]
        assert f"**Prompt**\n\n> {given}\n" in before if given else "**Prompt**" not in before
        assert after.startswith("\n\n>")
        assert given is None or given not in after
        assert after.rstrip().endswith(("(ended where the story ended)", "(cut at 20 tokens)"))


def test_a_page_shows_what_was_drawn(model, tokenizer, small_params):
    steady = never_ending(model)
    sample = small_params.sample.model_copy(update={"prompts": ("One day",), "top_k": 1})
    prompt = [0, *tokenizer.encode("One day", add_special_tokens=False).ids]
    text = tokenizer.decode(draw(steady, prompt, top_k=1, max_new_tokens=20))
    quoted = "\n".join(f"> {line}".rstrip() for line in text.strip("\n").split("\n"))
    assert f"**Continuation**\n\n{quoted}\n\n(cut at 20 tokens)" in sample_page(steady, tokenizer, sample, 0, "")


def test_pages_repeat_with_the_seed_and_differ_without(model, tokenizer, small_params):
    pages = [sample_page(model, tokenizer, small_params.sample, seed, "t") for seed in (1, 1, 2, 2**63 - 1)]
    assert pages[0] == pages[1]
    assert pages[0].partition("## ")[2] != pages[2].partition("## ")[2]


def test_a_page_without_prompts_has_the_free_start(model, tokenizer, small_params):
    sample = small_params.sample.model_copy(update={"prompts": ()})
    page = sample_page(model, tokenizer, sample, 0, "t")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == ["Free start"]
