"""render_samples: the Markdown of prompts and continuations."""

import re
from collections.abc import Callable

import pytest

from tinystories.inference.generate import generate
from tinystories.inference.samples import render_samples
from tinystories.model.gpt import GPT


@pytest.fixture(scope="module")
def model(random_model: Callable[..., GPT]) -> GPT:
    return random_model()


def test_render_samples_separates_prompt_and_continuation(model, tokenizer, small_params):
    page = render_samples(model, tokenizer, small_params.sample, seed=5, title="After epoch 1")
    assert page.startswith("# After epoch 1\n\ntop-k 40, temperature 0.8, seed 5\n")
    titles = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert titles == ["Prompt 1", "Prompt 2", "Prompt 3", "Unprompted sample"]
    for number, section in enumerate(page.split("\n## ")[1:]):
        before, _, after = section.partition("**Continuation**")
        given = [*small_params.sample.prompts, None][number]
        assert f"**Prompt**\n\n> {given}\n" in before if given else "**Prompt**" not in before
        assert after.startswith("\n\n>")
        assert given is None or given not in after
        assert after.rstrip().endswith(("(ended where the story ended)", "(cut at 20 tokens)"))


def test_render_samples_shows_the_tokens(model, tokenizer, small_params):
    steady = model.inference_copy()
    steady.embedding[0] = 0  # the end-of-text is never among the likeliest: its logit is always 0
    sample = small_params.sample.model_copy(update={"prompts": ("One day",), "top_k": 1})
    prompt = [0, *tokenizer.encode("One day", add_special_tokens=False).ids]
    (tokens,) = generate(steady, [prompt], max_new_tokens=20, temperature=1.0, top_k=1, seeds=[0])
    text = tokenizer.decode(tokens)
    quoted = "\n".join(f"> {line}".rstrip() for line in text.strip("\n").split("\n"))
    assert f"**Continuation**\n\n{quoted}\n\n(cut at 20 tokens)" in render_samples(steady, tokenizer, sample, 0, "")


def test_render_samples_repeats_with_seed(model, tokenizer, small_params):
    pages = [render_samples(model, tokenizer, small_params.sample, seed, "t") for seed in (1, 1, 2, 2**63 - 1)]
    assert pages[0] == pages[1]
    assert pages[0].partition("## ")[2] != pages[2].partition("## ")[2]


def test_render_samples_without_prompts(model, tokenizer, small_params):
    sample = small_params.sample.model_copy(update={"prompts": ()})
    page = render_samples(model, tokenizer, sample, 0, "t")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == ["Unprompted sample"]


def test_render_samples_says_that_a_continuation_is_empty(model, tokenizer, small_params, monkeypatch):
    written = [[0], [tokenizer.encode(" ").ids[0], 0], tokenizer.encode("One day").ids, [*tokenizer.encode("a").ids, 0]]
    monkeypatch.setattr("tinystories.inference.samples.generate", lambda *_, **__: written)
    page = render_samples(model, tokenizer, small_params.sample, 0, "t")
    ends = [section.partition("**Continuation**")[2].strip() for section in page.split("\n## ")[1:]]
    assert ends == [
        "(the story ended at once)",
        "(the story ended at once)",
        "> One day\n\n(cut at 20 tokens)",
        "> a\n\n(ended where the story ended)",
    ]
