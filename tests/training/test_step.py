"""The training step: its bits, its state, its figures. Compiled ones need a C++ compiler."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tinystories.common.params import ModelConfig, Params
from tinystories.model.gpt import GPT
from tinystories.tokenization.token_files import TokenArray
from tinystories.training.backend import Backend, set_determinism
from tinystories.training.schedule import lr_factor
from tinystories.training.step import PREFETCH_BATCHES, TrainStep, describe_slow_shape

FP32 = Backend(torch.device("cpu"), torch.float32, compiled=False)
BF16 = dataclasses.replace(FP32, dtype=torch.bfloat16)

TOKENS = (np.arange(600, dtype=np.int64) ** 2 % 61).astype(np.uint16)


def new_step(params: Params, vocab_size: int, tokens: TokenArray, backend: Backend) -> TrainStep:
    train_step = TrainStep(params, vocab_size, tokens, backend)
    train_step.initialize()
    return train_step


def losses(train_step: TrainStep, steps: range) -> list[float]:
    found = []
    for step in steps:
        before = train_step.loss_sum.item()
        train_step.step(step)
        found.append(train_step.loss_sum.item() - before)
    return found


def bits(train_step: TrainStep) -> dict[str, bytes]:
    return {name: tensor.detach().numpy().tobytes() for name, tensor in train_step.state_dict().items()}


@pytest.mark.parametrize("backend", [FP32, BF16], ids=["fp32", "bf16"])
def test_step_repeats_to_the_bit(small_params, backend):
    first, again = (new_step(small_params, 61, TOKENS, backend) for _ in range(2))
    assert losses(first, range(6)) == losses(again, range(6))
    assert bits(first) == bits(again)


def test_step_depends_on_the_seed(small_params):
    other = small_params.model_copy(update={"seed": small_params.seed + 1})
    first, second = new_step(small_params, 61, TOKENS, FP32), new_step(other, 61, TOKENS, FP32)
    assert losses(first, range(2)) != losses(second, range(2))


@pytest.mark.parametrize("backend", [FP32, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("stop", [0, 1, 7])
def test_load_state_dict_resumes_to_the_same_bits(small_params, backend, stop):
    through, stopped = (new_step(small_params, 61, TOKENS, backend) for _ in range(2))
    losses(through, range(12))
    losses(stopped, range(stop))
    saved = {name: tensor.clone() for name, tensor in stopped.state_dict().items()}
    losses(stopped, range(stop, 12))  # what the first goes on to do must not change what was saved
    resumed = new_step(small_params, 61, TOKENS, backend)
    losses(resumed, range(3))  # nor what the new one did before
    resumed.load_state_dict(saved)
    losses(resumed, range(stop, 12))
    assert bits(resumed) == bits(through)
    assert resumed.loss_sum.item() == through.loss_sum.item()


@settings(max_examples=50)
@given(stops=st.lists(st.tuples(st.integers(0, 150), st.integers(0, 20)), max_size=4))
def test_step_sees_each_window_once_a_pass_over_stops(small_params, stops):
    """After each stop the last steps, which were not saved, are repeated."""
    context, batch, steps = small_params.model.context_length, small_params.train.batch_size, 400
    tokens = np.arange(50 * context + 1, dtype=np.uint16)  # each its own place
    seen: list[list[int]] = []
    state = None
    for more, lost in [*stops, (steps, 0)]:
        train_step = TrainStep(small_params, 61, tokens, FP32)

        def run(train_step: TrainStep = train_step) -> None:
            tokens, _ = train_step._batches[int(train_step._step) % PREFETCH_BATCHES]
            seen.append([int(token) // context for token in tokens[:, 0]])
            train_step._step += 1

        train_step._run = run  # type: ignore[assignment]
        if state:
            train_step.load_state_dict(state)
        for step in range(len(seen), min(len(seen) + more, steps)):
            train_step.step(step)
        del seen[max(len(seen) - lost, 0) :]
        state = train_step.state_dict()
    windows = [window for row in seen for window in row]
    assert len(windows) == steps * batch
    for first in range(0, len(windows) - 50, 50):
        assert sorted(windows[first : first + 50]) == list(range(50))


def test_load_state_dict_refuses_another_model(small_params):
    train_step = new_step(small_params, 61, TOKENS, FP32)
    with pytest.raises(RuntimeError):
        train_step.load_state_dict(new_step(small_params, 62, TOKENS, FP32).state_dict())
    with pytest.raises(KeyError):
        train_step.load_state_dict({})


def test_step_overfits_a_small_corpus(small_params):
    train = small_params.train.model_copy(update={"steps_per_epoch": 50})
    train_step = new_step(small_params.model_copy(update={"train": train}), 61, TOKENS, FP32)
    found = losses(train_step, range(100))
    frequencies = np.bincount(TOKENS) / len(TOKENS)
    entropy = -sum(frequency * np.log(frequency) for frequency in frequencies if frequency)
    assert found[0] == pytest.approx(entropy, rel=0.02)
    assert np.mean(found[-5:]) < 0.6 * found[0]


def test_step_has_deterministic_algorithms_throughout(small_params, monkeypatch):
    """PyTorch raises where one is missing. On a CPU they give the same bits as the default ones."""
    from torch._inductor import config

    usual = new_step(small_params, 61, TOKENS, FP32)
    losses(usual, range(3))
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    try:
        set_determinism()
        deterministic = new_step(small_params, 61, TOKENS, FP32)
        losses(deterministic, range(3))
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        config.deterministic = False
    assert bits(deterministic) == bits(usual)


def test_gradient_norm_is_before_clipping(small_params):
    norms = []
    for limit in (0.0, 1e-3):
        train = small_params.train.model_copy(update={"gradient_clip": limit})
        train_step = new_step(small_params.model_copy(update={"train": train}), 61, TOKENS, FP32)
        train_step.step(0)
        norms.append(train_step.gradient_norm.item())
    assert norms[0] == norms[1] > 1e-3


def test_update_gets_the_lr_factor_of_its_step(small_params, monkeypatch):
    """Also after the first batches that are sent together, and where a training resumes."""
    update = {"steps_per_epoch": 100, "warmup_steps": 100, "cooldown": 0.5}
    params = small_params.model_copy(update={"train": small_params.train.model_copy(update=update)})
    train_step, found = new_step(params, 61, TOKENS, FP32), {}

    def note(grads: object, step: Tensor, factor: Tensor) -> Tensor:
        found[int(step)] = factor.item()
        return torch.zeros(())

    monkeypatch.setattr(train_step, "_update", note)
    steps = [0, 1, 62, 63, 64, 65, 150, 180, 10]
    for step in steps:
        train_step.step(step)
    expected = {step: float(np.float32(lr_factor(step, params.train))) for step in steps}
    assert len(set(expected.values())) == len(steps)
    assert found == expected


def test_loss_sum_and_gradient_norm_are_scalars(small_params):
    train_step = new_step(small_params, 61, TOKENS, FP32)
    train_step.step(0)
    assert train_step.loss_sum.shape == train_step.gradient_norm.shape == ()
    assert not train_step.loss_sum.requires_grad


@pytest.mark.slow
def test_compiled_step_computes_about_the_same(small_params):
    """With the kernel for CPUs, where there is a compiler: heads of 16, as it needs them."""
    params = small_params.model_copy(
        update={"model": ModelConfig(context_length=24, embedding_size=32, layers=1, heads=2), "seed": 1}
    )
    train_steps = [
        new_step(params, 61, TOKENS, backend) for backend in (BF16, dataclasses.replace(BF16, compiled=True))
    ]
    eager, compiled = (losses(train_step, range(12)) for train_step in train_steps)
    assert compiled == pytest.approx(eager, rel=1e-2)
    assert train_steps[1].gradient_norm.item() == pytest.approx(train_steps[0].gradient_norm.item(), rel=0.05)


@pytest.mark.slow
def test_compiled_step_of_two_threads_repeats_to_the_bit(small_params):
    """All tokens are the same, so all gradients of the embedding's rows meet in one row."""
    tokens = np.full(600, 7, dtype=np.uint16)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = set()
        for _ in range(5):
            train_step = new_step(small_params, 61, tokens, dataclasses.replace(BF16, compiled=True))
            losses(train_step, range(4))
            found.add(bits(train_step)["model.embedding"])
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 1


COMPILED = dataclasses.replace(FP32, compiled=True)
GPU = Backend(torch.device("cuda"), torch.bfloat16, compiled=True)


@pytest.mark.parametrize(
    ("backend", "shape", "said"),
    [
        (COMPILED, {"embedding_size": 64, "heads": 4}, None),
        (COMPILED, {"embedding_size": 96, "heads": 4}, "Heads of 24 components"),
        (FP32, {"embedding_size": 96, "heads": 4}, None),  # not compiled, no kernels
        (GPU, {"embedding_size": 64, "heads": 4}, None),
        (GPU, {"embedding_size": 64, "heads": 4, "context_length": 129}, "128 tokens of context"),
        (GPU, {"embedding_size": 2048, "heads": 32}, "embeddings of at most 1024"),
        (dataclasses.replace(GPU, dtype=torch.float32), {"embedding_size": 2048, "heads": 32}, None),
    ],
)
def test_describe_slow_shape_names_the_limit(backend, shape, said):
    if backend is GPU:
        pytest.importorskip("triton")
    with torch.device("meta"):
        model = GPT(ModelConfig(**{"context_length": 8, "layers": 1, **shape}), 61, backend.dtype)
    line = describe_slow_shape(model, 2, backend)
    assert line is None if said is None else line and said in line


def test_initialize_depends_on_the_tokens_to_train_on(small_params):
    first, again, other = (new_step(small_params, 61, tokens, FP32) for tokens in (TOKENS, TOKENS, TOKENS[::-1] % 7))
    assert bits(first) == bits(again)
    assert bits(first)["model.embedding"] != bits(other)["model.embedding"]
