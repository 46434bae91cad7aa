"""The training step, and what it runs on."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.repository import ROOT
from tinystories.common.errors import UserError
from tinystories.common.params import ModelConfig, Params, load_params
from tinystories.model.device import choose_device
from tinystories.training import backend as backend_module
from tinystories.training import trainer as training
from tinystories.training.backend import Backend, choose_backend, describe_environment, set_determinism
from tinystories.training.step import PREFETCH_BATCHES, TrainStep

FP32 = Backend(torch.device("cpu"), torch.float32, compiled=False)
BF16 = dataclasses.replace(FP32, dtype=torch.bfloat16)

TOKENS = (np.arange(600, dtype=np.int64) ** 2 % 61).astype(np.uint16)  # the same everywhere, for ever

# Losses of the first 20 steps. They change only with a change of what training computes: then say so and renew them.
GOLDEN = [
    4.145648, 3.968791, 3.879174, 3.746219, 3.755106, 3.542564, 3.635855, 3.578337, 3.398521, 3.445728,
    3.399380, 3.239426, 3.136246, 3.110966, 3.049877, 2.965263, 2.921059, 2.910339, 2.852303, 2.817673,
]  # fmt: skip


def losses(engine: TrainStep, steps: range) -> list[float]:
    found = []
    for step in steps:
        before = engine.loss_sum.item()
        engine.step(step)
        found.append(engine.loss_sum.item() - before)
    return found


def bits(engine: TrainStep) -> dict[str, bytes]:
    return {name: tensor.detach().numpy().tobytes() for name, tensor in engine.tensors().items()}


def test_the_losses_are_those_recorded(small_params):
    engine = TrainStep(small_params, 61, TOKENS, FP32)
    assert losses(engine, range(20)) == pytest.approx(GOLDEN, rel=1e-4)


@pytest.mark.parametrize("backend", [FP32, BF16], ids=["fp32", "bf16"])
def test_a_training_repeats_to_the_bit(small_params, backend):
    first, again = (TrainStep(small_params, 61, TOKENS, backend) for _ in range(2))
    assert losses(first, range(6)) == losses(again, range(6))
    assert bits(first) == bits(again)


def test_another_seed_trains_otherwise(small_params):
    other = small_params.model_copy(update={"seed": small_params.seed + 1})
    first, second = TrainStep(small_params, 61, TOKENS, FP32), TrainStep(other, 61, TOKENS, FP32)
    assert losses(first, range(2)) != losses(second, range(2))


@pytest.mark.parametrize("backend", [FP32, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("stop", [0, 1, 7])
def test_a_restored_training_goes_on_to_the_same_bits(small_params, backend, stop):
    through, stopped = (TrainStep(small_params, 61, TOKENS, backend) for _ in range(2))
    losses(through, range(12))
    losses(stopped, range(stop))
    saved = {name: tensor.clone() for name, tensor in stopped.tensors().items()}
    losses(stopped, range(stop, 12))  # what the first goes on to do must not change what was saved
    resumed = TrainStep(small_params, 61, TOKENS, backend)
    losses(resumed, range(3))  # nor what the new one did before
    resumed.restore(saved)
    losses(resumed, range(stop, 12))
    assert bits(resumed) == bits(through)
    assert resumed.loss_sum.item() == through.loss_sum.item()


@settings(max_examples=50)
@given(stops=st.lists(st.tuples(st.integers(0, 150), st.integers(0, 20)), max_size=4))
def test_no_window_comes_twice_before_all_came_once_over_stops(small_params, stops):
    """A stop after so many steps, of which the last were not saved: what they learnt is gone, so they come again."""
    context, batch, steps = small_params.model.context_length, small_params.train.batch_size, 400
    tokens = np.arange(50 * context + 1, dtype=np.uint16)  # each its own place
    seen: list[list[int]] = []
    state = None
    for more, lost in [*stops, (steps, 0)]:
        engine = TrainStep(small_params, 61, tokens, FP32)

        def run(engine: TrainStep = engine) -> None:
            tokens, _ = engine._batches[int(engine._step) % PREFETCH_BATCHES]
            seen.append([int(token) // context for token in tokens[:, 0]])
            engine._step += 1

        engine._run = run  # type: ignore[assignment]
        if state:
            engine.restore(state)
        for step in range(len(seen), min(len(seen) + more, steps)):
            engine.step(step)
        del seen[max(len(seen) - lost, 0) :]
        state = engine.tensors()
    windows = [window for row in seen for window in row]
    assert len(windows) == steps * batch
    for first in range(0, len(windows) - 50, 50):
        assert sorted(windows[first : first + 50]) == list(range(50))


def test_tensors_of_another_model_are_not_taken(small_params):
    engine = TrainStep(small_params, 61, TOKENS, FP32)
    with pytest.raises(RuntimeError):
        engine.restore(TrainStep(small_params, 62, TOKENS, FP32).tensors())
    with pytest.raises(KeyError):
        engine.restore({})


def test_a_small_corpus_is_learnt_by_heart(small_params):
    train = small_params.train.model_copy(update={"steps_per_epoch": 50})
    engine = TrainStep(small_params.model_copy(update={"train": train}), 61, TOKENS, FP32)
    found = losses(engine, range(100))
    assert found[0] == pytest.approx(np.log(61), rel=0.02)
    assert np.mean(found[-5:]) < 0.6 * found[0]


def test_deterministic_algorithms_are_there_for_all_that_a_step_does(small_params, monkeypatch):
    """Where one is missing PyTorch raises. On a CPU they give the same bits as ever."""
    from torch._inductor import config

    usual = TrainStep(small_params, 61, TOKENS, FP32)
    losses(usual, range(3))
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    try:
        set_determinism()
        deterministic = TrainStep(small_params, 61, TOKENS, FP32)
        losses(deterministic, range(3))
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        config.deterministic = False
    assert bits(deterministic) == bits(usual)


@pytest.mark.parametrize("wanted", [True, False])
def test_the_parameter_switches_it_on_before_the_device_is_used(small_params, monkeypatch, wanted):
    done = []
    monkeypatch.setattr(training, "_open_corpus", lambda length: SimpleNamespace(meta=SimpleNamespace(vocab_size=61)))
    monkeypatch.setattr(training, "set_determinism", lambda: done.append("deterministic"))

    def end(*_: object) -> None:
        done.append("backend")
        raise ZeroDivisionError

    monkeypatch.setattr(training, "choose_backend", end)
    params = small_params.model_copy(update={"train": small_params.train.model_copy(update={"deterministic": wanted})})
    with pytest.raises(ZeroDivisionError):
        training.train(params, None)
    assert done == ["deterministic", "backend"][not wanted :]


def test_the_gradient_norm_is_the_one_before_clipping(small_params):
    norms = []
    for limit in (0.0, 1e-3):
        train = small_params.train.model_copy(update={"gradient_clip": limit})
        engine = TrainStep(small_params.model_copy(update={"train": train}), 61, TOKENS, FP32)
        engine.step(0)
        norms.append(engine.gradient_norm.item())
    assert norms[0] == norms[1] > 1e-3


def test_the_figures_are_scalars(small_params):
    engine = TrainStep(small_params, 61, TOKENS, FP32)
    engine.step(0)
    assert engine.loss_sum.shape == engine.gradient_norm.shape == ()
    assert not engine.loss_sum.requires_grad


def on(params: Params, **values: str) -> Backend:
    return choose_backend(params.model_copy(update={"train": params.train.model_copy(update=values)}), 300)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA")
@pytest.mark.skipif(torch.backends.mps.is_available(), reason="has MPS")
def test_devices_that_are_not_there(small_params):
    assert choose_device("auto") == torch.device("cpu")
    for wanted in ("cuda", "mps"):
        with pytest.raises(UserError, match=f"train.device is {wanted}, but PyTorch finds only cpu here"):
            on(small_params, device=wanted)


@pytest.mark.parametrize(
    ("there", "expected"), [({"cuda", "mps"}, "cuda"), ({"mps"}, "mps"), (set(), "cpu"), ({"cuda"}, "cuda")]
)
def test_the_best_device_there_is(monkeypatch, there, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    assert choose_device("auto").type == expected
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize(("units", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_computes_in_bf16_where_the_device_does(small_params, monkeypatch, units, expected):
    monkeypatch.setattr(backend_module, "_computes_in_bf16", lambda device: units)
    assert on(small_params, precision="auto").dtype == expected
    assert on(small_params, precision="bf16").dtype == torch.bfloat16
    assert on(small_params, precision="fp32").dtype == torch.float32


def test_precision_has_the_name_of_the_parameter():
    assert (FP32.precision, BF16.precision) == ("fp32", "bf16")


def long(params: Params) -> Params:
    """A training that is worth compiling on a CPU."""
    return params.model_copy(update={"train": params.train.model_copy(update={"steps_per_epoch": 10**9})})


def test_a_long_training_is_compiled_on_a_cpu_and_a_short_one_is_not(small_params, monkeypatch):
    tried: list[torch.device] = []
    monkeypatch.setattr(backend_module, "probe_compile", tried.append)
    assert not on(small_params, compile="auto").compiled
    assert not on(long(small_params), compile="off").compiled
    assert not tried
    assert on(small_params, compile="on").compiled
    assert on(long(small_params), compile="auto").compiled
    assert len(tried) == 2


def test_a_machine_that_cannot_compile_says_so_once_and_trains(small_params, monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError("no compiler found\nand a long story")

    monkeypatch.setattr(torch, "compile", fail)
    assert not on(long(small_params), compile="auto").compiled
    said = capsys.readouterr().out
    assert said.count("warning:") == said.count("no compiler found") == 1
    with pytest.raises(UserError, match=r"train.compile is on, but torch.compile fails here \(no compiler found\)"):
        on(small_params, compile="on")


def test_the_reference_run_is_worth_compiling(monkeypatch):
    monkeypatch.setattr(backend_module, "probe_compile", lambda device: None)
    reference = load_params(ROOT / "params.yaml")
    params = reference.model_copy(update={"train": reference.train.model_copy(update={"device": "cpu"})})
    assert choose_backend(params, 10_000).compiled


@pytest.mark.slow
def test_a_compiled_training_goes_the_same_way(small_params):
    """With the kernel for CPUs, where there is a compiler: heads of 16, as it needs them."""
    params = small_params.model_copy(
        update={"model": ModelConfig(context_length=24, embedding_size=32, layers=1, heads=2), "seed": 1}
    )
    engines = [TrainStep(params, 61, TOKENS, backend) for backend in (BF16, dataclasses.replace(BF16, compiled=True))]
    eager, compiled = (losses(engine, range(12)) for engine in engines)
    assert compiled == pytest.approx(eager, rel=1e-2)
    assert engines[1].gradient_norm.item() == pytest.approx(engines[0].gradient_norm.item(), rel=0.05)


@pytest.mark.slow
def test_a_compiled_training_of_two_threads_repeats_to_the_bit(small_params):
    """All tokens are the same, so all gradients of the embedding's rows meet in one row."""
    tokens = np.full(600, 7, dtype=np.uint16)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = set()
        for _ in range(5):
            engine = TrainStep(small_params, 61, tokens, dataclasses.replace(BF16, compiled=True))
            losses(engine, range(4))
            found.add(bits(engine)["model.embedding"])
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 1


def test_the_environment_is_described_in_plain_values():
    described = describe_environment(BF16)
    assert described["device"] == "cpu"
    assert described["precision"] == "bf16"
    assert described["compiled"] is False
    assert described["torch"] == torch.__version__
    assert set(described) >= {"device_name", "python", "platform", "threads", "git_commit"}
    assert all(value is None or isinstance(value, str | int | bool) for value in described.values())


def test_no_git_no_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert describe_environment(FP32)["git_commit"] is None
    monkeypatch.setenv("PATH", "")
    assert describe_environment(FP32)["git_commit"] is None
