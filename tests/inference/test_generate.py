"""generate: seeds, top-k, greedy, the full context, stopping; compared with a plain loop and transformers."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from tinystories.common.params import ModelConfig
from tinystories.inference.decoder import Decoder
from tinystories.inference.generate import _sample_next_tokens, generate
from tinystories.model.checkpoint import save_checkpoint
from tinystories.model.gpt import GPT


@pytest.fixture(scope="module")
def model(random_model: Callable[..., GPT]) -> GPT:
    return random_model()


def sample_all(model: GPT, prompts: list[list[int]], seeds: list[int], **values: Any) -> list[list[int]]:
    return generate(model, prompts, seeds=seeds, **{"max_new_tokens": 30, "temperature": 1.0, "top_k": 300, **values})


def draw(model: GPT, prompt: list[int], seed: int = 0, **values: Any) -> list[int]:
    return sample_all(model, [prompt], [seed], **values)[0]


def sample_plainly(model: GPT, prompt: list[int], seed: int, max_new_tokens: int, top_k: int) -> list[int]:
    """What `generate` says it does, as plainly as can be: one text, read from its beginning for every token."""
    context = model.config.context_length
    truncated = max(context // 2, 1)
    window = prompt if len(prompt) <= context else prompt[-truncated:]
    uniforms = torch.rand(max_new_tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
    new: list[int] = []
    while len(new) < max_new_tokens and 0 not in new:
        with torch.no_grad():
            logits = model(torch.tensor([window]))[0, -1].double()
        likeliest = sorted(logits.topk(min(top_k, len(logits))).indices.tolist())
        below = 0.0
        for token, share in zip(likeliest, logits[likeliest].softmax(-1).tolist(), strict=True):  # noqa: B007
            below += share
            if uniforms[len(new)] < below:
                break
        new.append(token)
        window = [*window, token] if len(window) < context else [*window, token][-truncated:]
    return new


def never_ending(model: GPT) -> GPT:
    """A copy that never has the end-of-text among its likeliest few: its logit is always 0."""
    copy = model.inference_copy()
    copy.embedding[0] = 0
    return copy


def test_generate_repeats_with_seed(model):
    first, again = (draw(model, [0], seed=3) for _ in range(2))
    assert first == again
    assert len({tuple(draw(model, [0], seed=seed)) for seed in range(5)}) == 5


def test_generate_keeps_global_random_state(model):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    draw(model, [0])
    assert torch.equal(torch.rand(1), expected)


def test_generate_greedy(model):
    tokens = [0, 5]
    greedy = never_ending(model)
    with torch.no_grad():
        while len(tokens) < 12:
            tokens.append(int(greedy(torch.tensor([tokens]))[0, -1].argmax()))
    assert draw(greedy, [0, 5], top_k=1, max_new_tokens=10, seed=1) == tokens[2:]
    # A temperature of almost nothing draws the same.
    assert draw(greedy, [0, 5], temperature=1e-4, max_new_tokens=10, seed=2) == tokens[2:]


@settings(max_examples=25)
@given(
    context=st.sampled_from([2, 3, 5, 12]),
    prompts=st.lists(st.lists(st.integers(0, 299), min_size=1, max_size=30), min_size=1, max_size=4),
    top_k=st.sampled_from([1, 2, 5, 300]),
    data=st.data(),
)
def test_generate_is_independent_of_batch_and_cache(random_model, context, prompts, top_k, data):
    """Also where texts outgrow the context several times, and end at different times."""
    # In fp64, for in fp32 one number in some 100,000 falls so close between two tokens that rounding decides.
    model = random_model(ModelConfig(context_length=context, embedding_size=24, layers=1, heads=2)).inference_copy(
        torch.float64
    )
    seeds = data.draw(st.lists(st.integers(0, 2**63 - 1), min_size=len(prompts), max_size=len(prompts)))
    together = sample_all(model, prompts, seeds, max_new_tokens=20, top_k=top_k)
    for prompt, seed, tokens in zip(prompts, seeds, together, strict=True):
        assert tokens == draw(model, prompt, seed, max_new_tokens=20, top_k=top_k)
        assert tokens == sample_plainly(model, prompt, seed, max_new_tokens=20, top_k=top_k)


@pytest.mark.parametrize("top_k", [1, 5])
def test_generate_fp32_is_independent_of_batch(random_model, top_k):
    """The decoder multiplies in other ways for one row, for a few and for many."""
    model = random_model(ModelConfig(context_length=24, embedding_size=32, layers=2, heads=2))
    prompts = [[(37 * number + place) % 299 + 1 for place in range(1 + 5 * number % 31)] for number in range(12)]
    seeds = list(range(12))
    alone = [sample_plainly(model, prompt, seed, 40, top_k) for prompt, seed in zip(prompts, seeds, strict=True)]
    for rows in (1, 4, 12):
        together = sample_all(model, prompts[:rows], seeds[:rows], max_new_tokens=40, top_k=top_k)
        assert together == alone[:rows]
    assert top_k == 1 or len({len(tokens) for tokens in alone}) > 1, "some end before others"


def test_generate_greedy_equals_transformers(random_model, tokenizer_file, tmp_path):
    model = never_ending(random_model(ModelConfig(context_length=32, embedding_size=24, layers=3, heads=2)))
    save_checkpoint(model, tokenizer_file, tmp_path / "checkpoint")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint")
    prompts = [list(range(row + 1, row + 2 + 2 * (row % 5))) for row in range(10)]
    ours = sample_all(model, prompts, [0] * 10, top_k=1, max_new_tokens=22)
    for prompt, tokens in zip(prompts, ours, strict=True):
        ids = torch.tensor([prompt])
        given_too = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=22, do_sample=False)
        assert tokens == given_too[0, len(prompt) :].tolist()


def test_generate_longer_begins_with_shorter(model):
    assert draw(model, [5], 3, max_new_tokens=40, top_k=5)[:20] == draw(model, [5], 3, max_new_tokens=20, top_k=5)


def test_generate_without_prompts(model):
    assert sample_all(model, [], []) == []


def test_generate_uses_the_full_context(model):
    """A text that just fits is read whole: changing its first token changes what follows."""
    steady = never_ending(model)
    texts = [[first, *range(20, 31)] for first in range(1, 9)]
    assert all(len(text) == model.config.context_length for text in texts)
    with torch.no_grad():
        expected = [int(steady(torch.tensor([text]))[0, -1].argmax()) for text in texts]
    assert [draw(steady, text, top_k=1, max_new_tokens=1)[0] for text in texts] == expected


def test_generate_truncates_long_prompts(model):
    steady = never_ending(model)
    prompt = list(range(1, 101))
    assert draw(steady, prompt, top_k=5, seed=4) == draw(steady, prompt[-6:], top_k=5, seed=4)


def test_generate_stays_within_context(model, monkeypatch):
    seen: list[list[int]] = []
    decode_step = Decoder.decode_step

    def watched(self: Decoder, tokens: list[int], positions: list[int]) -> torch.Tensor:
        seen.append([position + 1 for position in positions])
        return decode_step(self, tokens, positions)

    monkeypatch.setattr(Decoder, "decode_step", watched)
    sample_all(never_ending(model), [[1], [1, 2, 3]], [0, 0], max_new_tokens=40, top_k=5)
    for row, start in ((0, 1), (1, 3)):
        lengths = [lengths[row] for lengths in seen]
        assert lengths[: 13 - start] == list(range(start, 13)), "it is used in full before anything is dropped"
        assert max(lengths) == 12
        assert min(lengths[13 - start :]) == 6


def test_generate_drops_ended_texts(model, monkeypatch):
    read: list[int] = []
    decode_step = Decoder.decode_step

    def watched(self: Decoder, tokens: list[int], positions: list[int]) -> torch.Tensor:
        read.append(len(tokens))
        return decode_step(self, tokens, positions)

    monkeypatch.setattr(Decoder, "decode_step", watched)
    new = sample_all(model, [[1], [2], [3], [4]], [0, 1, 2, 3], max_new_tokens=2_000)
    assert sum(read) == sum(map(len, new))
    assert len(read) == max(map(len, new)) < 2_000
    assert len({len(tokens) for tokens in new}) == 4


def test_generate_stops_at_end_of_text(model):
    ends = [draw(model, [0], max_new_tokens=2_000, seed=seed) for seed in range(3)]
    for tokens in ends:
        assert tokens[-1] == 0
        assert 0 not in tokens[:-1]
        assert len(tokens) < 2_000


def test_generate_stops_at_max_new_tokens(model):
    assert len(draw(never_ending(model), [1], max_new_tokens=7, top_k=5)) == 7


def test_generate_top_k(model):
    with torch.no_grad():
        best = set(model(torch.tensor([[7]]))[0, -1].topk(3).indices.tolist())
    assert {draw(model, [7], max_new_tokens=1, top_k=3, temperature=50.0, seed=seed)[0] for seed in range(60)} == best


def test_generate_top_p(model):
    """The likeliest tokens that have the share together, of the likeliest few; the one that completes it too."""
    with torch.no_grad():
        logits = model(torch.tensor([[7]]))[0, -1].double() / 3.0
    for top_k, top_p in ((300, 0.3), (300, 0.8), (5, 0.7), (300, 1e-9)):
        values, ids = logits.topk(top_k)
        shares = values.softmax(-1)
        count = next(number for number in range(1, top_k + 1) if shares[:number].sum() >= top_p)
        drawn = Counter(
            draw(model, [7], max_new_tokens=1, top_k=top_k, top_p=top_p, temperature=3.0, seed=seed)[0]
            for seed in range(400)
        )
        assert set(drawn) <= set(ids[:count].tolist())
        for token, share in zip(ids[:count].tolist(), (shares[:count] / shares[:count].sum()).tolist(), strict=True):
            assert drawn[token] / 400 == pytest.approx(share, abs=0.09)


def test_sample_with_top_p_and_the_largest_number_takes_a_kept_token():
    logits = torch.tensor([[3.0, 2.9, 1.0, 2.8, 1.0]])
    largest = torch.tensor([1 - 2**-53], dtype=torch.float64)
    assert _sample_next_tokens(logits, 1.0, 5, largest, 0.6) == [1]


def test_generate_top_k_beyond_vocabulary(model):
    assert draw(model, [1], top_k=65_536, seed=2) == draw(model, [1], top_k=300, seed=2)


def test_generate_follows_the_distribution(model):
    with torch.no_grad():
        shares = (model(torch.tensor([[7]]))[0, -1] / 2.0).softmax(-1)
    best = int(shares.argmax())
    drawn = [draw(model, [7], max_new_tokens=1, temperature=2.0, seed=seed)[0] for seed in range(400)]
    assert drawn.count(best) / 400 == pytest.approx(shares[best].item(), abs=0.08)


def test_generate_stops_between_steps(model):
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(never_ending(model), [1], top_k=5, on_step=check)
    assert len(calls) == 4
