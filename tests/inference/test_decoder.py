"""Both decoders: logits of texts that grow side by side equal GPT.forward of each text at once. Needs a compiler."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.reading import read_on, read_whole
from tinystories.common.params import ModelConfig
from tinystories.inference.cpu_decoder import CpuDecoder
from tinystories.inference.decoder import Decoder, make_decoder
from tinystories.model.cpu_kernels import compile_kernels
from tinystories.model.gpt import GPT

ANY_SHAPE = [
    ModelConfig(context_length=12, embedding_size=24, layers=3, heads=2),
    ModelConfig(context_length=9, embedding_size=16, layers=1, heads=1),
    ModelConfig(context_length=16, embedding_size=32, layers=2, heads=8),
]
# Of these there is a decoder in C++, too.
FAST = [
    ModelConfig(context_length=12, embedding_size=48, layers=3, heads=3),
    ModelConfig(context_length=17, embedding_size=16, layers=1, heads=1),
    ModelConfig(context_length=20, embedding_size=96, layers=2, heads=2),
]
WAYS = [(Decoder, shape) for shape in ANY_SHAPE + FAST] + [(CpuDecoder, shape) for shape in FAST]
each_way = pytest.mark.parametrize(("decoder_class", "sizes"), WAYS, ids=str)
# One row, a few and many take different ways through a CPU.
ROWS = [1, 2, 5, 8, 15]


@pytest.fixture(scope="module", autouse=True)
def all_kernels(kernels):
    if not all(compile_kernels(size, dtype) for size in (16, 48) for dtype in (torch.float32, torch.bfloat16)):
        pytest.skip("no C++ compiler")


@st.composite
def some_texts(draw: st.DrawFn, count: int, shortest: int, longest: int) -> list[list[int]]:
    return [draw(st.lists(st.integers(0, 299), min_size=shortest, max_size=longest)) for _ in range(count)]


@pytest.mark.parametrize("rows", ROWS)
@each_way
@settings(max_examples=8)
@given(data=st.data())
def test_decode_step_equals_forward(random_model, decoder_class, sizes, rows, data):
    model = random_model(sizes)
    texts = data.draw(some_texts(rows, 1, sizes.context_length))
    decoder = decoder_class(model, rows)
    with torch.inference_mode():
        decoder.prefill(list(range(rows)), [text[:-1] for text in texts])
        while True:
            torch.testing.assert_close(read_on(decoder, texts), read_whole(model, texts), atol=2e-5, rtol=2e-5)
            if max(map(len, texts)) == sizes.context_length:
                break
            texts = [[*text, (7 * text[-1] + row) % 300] for row, text in enumerate(texts)]


@pytest.mark.parametrize(("decoder_class", "sizes"), [(Decoder, ANY_SHAPE[0]), (CpuDecoder, FAST[0])])
@pytest.mark.parametrize("rows", [4, 11])
@settings(max_examples=8)
@given(data=st.data())
def test_prefill_and_copy_row_replace_rows(random_model, decoder_class, sizes, rows, data):
    """Whatever was in a row before, and whatever is in the others."""
    model = random_model(sizes)
    texts = data.draw(some_texts(rows, 2, 12))
    decoder = decoder_class(model, rows)
    with torch.inference_mode():
        decoder.prefill(list(range(rows)), texts)
        decoder.prefill([2, 0], [texts[1][:-1], texts[3][:-1]])
        decoder.copy_row(2, 1)
        for count in (3, 2, 1):
            now = [texts[3], texts[1], texts[1]][:count]
            torch.testing.assert_close(read_on(decoder, now), read_whole(model, now), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("rows", [1, 4, 11])
@pytest.mark.parametrize("copied", [False, True])
@each_way
def test_decode_step_in_bf16(random_model, decoder_class, sizes, rows, copied):
    half = GPT(sizes, 300, torch.bfloat16)
    half.load_state_dict(random_model(sizes).state_dict())
    model = half.inference_copy() if copied else half
    texts = [[row + 1, 20, 30, 40] for row in range(rows)]
    with torch.inference_mode():
        decoder = decoder_class(model, rows)
        decoder.prefill(list(range(rows)), [text[:-1] for text in texts])
        logits, exact = read_on(decoder, texts), read_whole(random_model(sizes), texts)
    assert logits.dtype == (torch.float32 if decoder_class is CpuDecoder else torch.bfloat16)
    assert torch.nn.functional.cosine_similarity(logits.float().flatten(), exact.flatten(), dim=0) > 0.999


def test_make_decoder_prefers_cpu_decoder(random_model, kernels):
    for sizes in ANY_SHAPE[0], FAST[0], FAST[2]:
        fast = sizes in FAST
        assert isinstance(make_decoder(random_model(sizes), 1), CpuDecoder if fast else Decoder)
    assert isinstance(make_decoder(random_model(FAST[0]).inference_copy(torch.float64), 1), Decoder)
    compiled = dict(kernels)
    kernels.clear()
    assert isinstance(make_decoder(random_model(FAST[0]), 1), Decoder)
    kernels.update(compiled)


@pytest.mark.parametrize(("decoder_class", "sizes"), [(Decoder, ANY_SHAPE[0]), (CpuDecoder, FAST[0])])
def test_decoder_refuses_out_of_range(random_model, decoder_class, sizes):
    """Not read from beyond the weights, as C++ would."""
    decoder = decoder_class(random_model(sizes), 2)
    for tokens, positions in (([300, 1], [0, 0]), ([1, -1], [0, 0]), ([1, 1], [0, sizes.context_length])):
        with torch.inference_mode(), pytest.raises(IndexError):
            decoder.decode_step(tokens, positions)
    with torch.inference_mode(), pytest.raises(IndexError):
        decoder.prefill([0], [[1] * (sizes.context_length + 1)])
    with torch.inference_mode(), pytest.raises(IndexError):
        decoder.prefill([2], [[1]])  # there are two rows


def test_cpu_decoder_refuses_missing_positions(random_model):
    """Else C++ would read on behind the positions."""
    decoder = CpuDecoder(random_model(FAST[0]), 2)
    with torch.inference_mode(), pytest.raises(ValueError):
        decoder.decode_step([1, 1], [0])
    with torch.inference_mode(), pytest.raises(IndexError):
        decoder.decode_step([1, 1, 1], [0, 0, 0])  # of two rows
