"""What a training runs on: device, precision, compiling, determinism; and its environment. Needs nothing."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from tests.support.repository import PARAMS
from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.common.params_file import load_params
from tinystories.model.device import choose_device
from tinystories.training import backend as backend_module
from tinystories.training import trainer
from tinystories.training.backend import Backend, choose_backend, describe_environment, training_flops

FP32 = Backend(torch.device("cpu"), torch.float32, compiled=False)
BF16 = dataclasses.replace(FP32, dtype=torch.bfloat16)


def choose(params: Params, **values: str) -> Backend:
    return choose_backend(params.model_copy(update={"train": params.train.model_copy(update=values)}), 300)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA")
@pytest.mark.skipif(torch.backends.mps.is_available(), reason="has MPS")
def test_choose_backend_refuses_missing_devices(small_params):
    assert choose_device("auto") == torch.device("cpu")
    for wanted in ("cuda", "mps"):
        with pytest.raises(UserError, match=f"train.device is {wanted}, but PyTorch finds only cpu here"):
            choose(small_params, device=wanted)


@pytest.mark.parametrize(
    ("available", "expected"), [({"cuda", "mps"}, "cuda"), ({"mps"}, "mps"), (set(), "cpu"), ({"cuda"}, "cuda")]
)
def test_choose_device_prefers_cuda_then_mps(monkeypatch, available, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in available)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in available)
    assert choose_device("auto").type == expected
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize(("units", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_choose_backend_computes_in_bf16_if_the_device_does(small_params, monkeypatch, units, expected):
    monkeypatch.setattr(backend_module, "_computes_in_bf16", lambda device: units)
    assert choose(small_params, precision="auto").dtype == expected
    assert choose(small_params, precision="bf16").dtype == torch.bfloat16
    assert choose(small_params, precision="fp32").dtype == torch.float32


def test_precision_is_named_as_in_params():
    assert (FP32.precision, BF16.precision) == ("fp32", "bf16")


def long(params: Params) -> Params:
    """Return parameters of a training that is worth compiling on a CPU."""
    return params.model_copy(update={"train": params.train.model_copy(update={"steps_per_epoch": 10**9})})


def test_choose_backend_compiles_long_trainings_alone(small_params, monkeypatch):
    tried: list[torch.device] = []
    monkeypatch.setattr(backend_module, "probe_compile", tried.append)
    assert not choose(small_params, compile="auto").compiled
    assert not choose(long(small_params), compile="off").compiled
    assert not tried
    assert choose(small_params, compile="on").compiled
    assert choose(long(small_params), compile="auto").compiled
    assert len(tried) == 2


def test_choose_backend_warns_once_if_compiling_fails(small_params, monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError("no compiler found\nand a long story")

    monkeypatch.setattr(torch, "compile", fail)
    assert not choose(long(small_params), compile="auto").compiled
    said = capsys.readouterr().out
    assert said.count("warning:") == said.count("no compiler found") == 1
    with pytest.raises(UserError, match=r"train.compile is on, but torch.compile fails here \(no compiler found\)"):
        choose(small_params, compile="on")


def test_choose_backend_compiles_the_reference_run(monkeypatch):
    monkeypatch.setattr(backend_module, "probe_compile", lambda device: None)
    reference = load_params(PARAMS)
    params = reference.model_copy(update={"train": reference.train.model_copy(update={"device": "cpu"})})
    assert choose_backend(params, 10_000).compiled


@pytest.mark.parametrize("wanted", [True, False])
def test_train_sets_determinism_before_it_uses_the_device(small_params, monkeypatch, wanted):
    done = []
    monkeypatch.setattr(trainer, "open_data", lambda length: SimpleNamespace(meta=SimpleNamespace(vocab_size=61)))
    monkeypatch.setattr(trainer, "read_parent", lambda params: None)
    monkeypatch.setattr(trainer, "set_determinism", lambda: done.append("deterministic"))

    def end(*_: object) -> None:
        done.append("backend")
        raise ZeroDivisionError

    monkeypatch.setattr(trainer, "choose_backend", end)
    params = small_params.model_copy(update={"train": small_params.train.model_copy(update={"deterministic": wanted})})
    with pytest.raises(ZeroDivisionError):
        trainer.train(params, None)
    assert done == ["deterministic", "backend"][not wanted :]


def test_describe_environment_gives_plain_values():
    described = describe_environment(BF16)
    assert described["device"] == "cpu"
    assert described["precision"] == "bf16"
    assert described["compiled"] is False
    assert described["torch"] == torch.__version__
    assert set(described) >= {"device_name", "python", "platform", "threads", "git_commit"}
    assert all(value is None or isinstance(value, str | int | bool) for value in described.values())


def test_describe_environment_without_git_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert describe_environment(FP32)["git_commit"] is None
    monkeypatch.setenv("PATH", "")
    assert describe_environment(FP32)["git_commit"] is None


def test_choose_backend_keeps_compiled_code_in_the_state_directory(small_params, workspace, monkeypatch):
    """PyTorch loads it by pickle; its default is a directory in /tmp, which another user may have made before."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    used = []
    monkeypatch.setattr(backend_module, "probe_compile", lambda device: used.append(cache_dir()))
    compiled = small_params.model_copy(update={"train": small_params.train.model_copy(update={"compile": "on"})})
    assert choose_backend(compiled, 300).compiled
    assert used == [str(workspace / ".state" / "compiled")]
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/elsewhere")
    choose_backend(compiled, 300)
    assert used[1:] == ["/elsewhere"]


def test_training_flops_are_six_a_token_and_weight():
    params = load_params(PARAMS)
    config, vocab_size = params.model, 10_000
    block = 4 * config.embedding_size**2 + 3 * config.embedding_size * config.mlp_size
    tokens = params.train.steps * params.train.batch_size * config.context_length
    weights = config.layers * block + vocab_size * config.embedding_size
    assert training_flops(params, vocab_size) == 6.0 * weights * tokens
