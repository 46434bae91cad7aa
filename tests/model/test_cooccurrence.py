"""Embeddings from co-occurrence: the PPMI of a plain count, alike rows for alike tokens, and texts that have little."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tinystories.model.cooccurrence import CONTEXT_SMOOTHING, cooccurrence_embedding, crowding, ppmi


def embed(tokens: Tensor, vocab_size: int, width: int, seed: int = 1) -> Tensor:
    return cooccurrence_embedding(tokens, vocab_size, width, torch.Generator().manual_seed(seed))


def plain_ppmi(tokens: list[int], vocab_size: int, distance: int) -> list[list[float]]:
    counts = [[0] * vocab_size for _ in range(vocab_size)]
    for token, context in zip(tokens, tokens[distance:], strict=False):
        counts[token][context] += 1
    frequency = [sum(row) for row in counts]
    smoothed = [sum(column) ** CONTEXT_SMOOTHING for column in zip(*counts, strict=True)]

    def information(i: int, j: int) -> float:
        if not counts[i][j]:
            return 0.0
        by_chance = frequency[i] * smoothed[j] / sum(smoothed)
        return max(math.log(counts[i][j] / by_chance), 0.0) / math.sqrt(distance)

    return [[information(i, j) for j in range(vocab_size)] for i in range(vocab_size)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(1, 8))
def test_ppmi_equals_a_plain_count(tokens, distance):
    """Before is after, of the text read backwards."""
    for found, text in zip(ppmi(torch.tensor(tokens), 7, distance), (tokens, tokens[::-1]), strict=True):
        assert torch.allclose(found.to_dense(), torch.tensor(plain_ppmi(text, 7, distance), dtype=torch.float64))


def test_ppmi_of_the_last_tokens_of_the_largest_vocabulary():
    """What always follows is one in five: ln 5 with contexts as frequent as each other."""
    after, before = ppmi(torch.arange(65_531, 65_536).repeat(10), 65_536, 1)
    assert after.indices().T.tolist() == [[i, i + 1 if i < 65_535 else 65_531] for i in range(65_531, 65_536)]
    assert torch.equal(before.indices(), after.t().coalesce().indices())
    assert after.values().mean().item() == pytest.approx(math.log(5), abs=0.02)


@pytest.mark.parametrize("width", [8, 24])  # less and more than there are tokens
def test_tokens_with_the_same_neighbours_are_alike(width):
    """Sentences `1 x 2`, where x is 3 or 4, and `5 y 6`, where y is 7 or 8."""
    choices = torch.randint(2, (2, 400), generator=torch.Generator().manual_seed(0)).tolist()
    text = [
        token for x, y in zip(*choices, strict=True) for token in (1, 3 + x, 2, 0, 0, 0, 0, 5, 7 + y, 6, 0, 0, 0, 0)
    ]
    rows = embed(torch.tensor(text), 12, width)
    rows = rows / rows.norm(dim=1, keepdim=True)
    alike = rows @ rows.T
    assert alike[3, 4] > 0.9 and alike[7, 8] > 0.9
    assert alike[3, 7] < 0.5 and alike[4, 8] < 0.5


@pytest.mark.parametrize(("text", "near_others"), [([0], 0), ([0, 1], 2), ([3] * 50, 0), (list(range(40)), 40)])
def test_rows_are_of_one_size_however_little_the_text_has(text, near_others):
    """A token that only ever stands near itself says nothing, nor does one that does not occur: they are random."""
    sizes = embed(torch.tensor(text), 40, 16).square().mean(1)
    assert int(((sizes - 1).abs() < 0.01).sum()) == pytest.approx(near_others, abs=3)
    assert sizes.mean() == pytest.approx(1, abs=0.2) and sizes.min() > 0.1


def test_embedding_depends_on_the_seed_alone():
    """Not on the number of threads; another seed rotates it."""
    steps = torch.randint(4, (5_000,), generator=torch.Generator().manual_seed(2))
    tokens = steps.cumsum(0) % 30  # with structure: without any, all components are equally large
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(embed(tokens, 30, 16))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    other = embed(tokens, 30, 16, seed=2)
    assert (found[0] - other).abs().mean() > 0.5
    assert (found[0] @ found[0].T - other @ other.T).abs().mean() < 1.0


def test_crowding_is_the_cosine_to_the_tenth_nearest():
    rows = torch.randn(60, 8, generator=torch.Generator().manual_seed(3))
    rows[:12] = rows[0] + 0.05 * rows[:12]  # twelve that are alike
    found = crowding(rows)[:, 0]
    for row in range(60):
        others = torch.cosine_similarity(rows[row], rows[[other for other in range(60) if other != row]])
        assert found[row].item() == pytest.approx(others.sort(descending=True).values[9].item(), abs=0.01)
    assert (found[:12] > 0.9).all() and (found[12:] < 0.9).all()
    assert crowding(rows[:3]).shape == (3, 1)
