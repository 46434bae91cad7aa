"""The GPU's step and optimizer against the plain ones, in Triton's interpreter. Needs Triton and no GPU."""

import numpy as np
import pytest
import torch

from tinystories.common.params import ModelConfig, Params
from tinystories.model.gpt import GPT
from tinystories.training.backend import Backend
from tinystories.training.optimizer import MATRICES, Optimizer, OptimizerConfig
from tinystories.training.schedule import lr_factor
from tinystories.training.step import TrainStep

pytest.importorskip("triton")

from tests.training.gpu.helpers import assert_near, random, random_weights
from tinystories.training.gpu import muon
from tinystories.training.gpu.optimizer import GpuOptimizer
from tinystories.training.gpu.step import GpuStep, is_supported


@pytest.mark.parametrize("layers", [1, 3])
def test_gpu_step_computes_autograds_loss_and_gradients(layers):
    model = random_weights(ModelConfig(context_length=12, embedding_size=32, layers=layers, heads=2))
    gpu_step = GpuStep(model, batch_size=3)
    for seed in range(2):  # the second time on the buffers of the first
        ids = torch.randint(97, (3, 13), generator=torch.Generator().manual_seed(seed))
        expected = model.loss(ids[:, :-1], ids[:, 1:])
        grads = torch.autograd.grad(expected, list(model.parameters()))
        loss, found = gpu_step.loss_and_grads(ids[:, :-1], ids[:, 1:])
        torch.testing.assert_close(loss, expected.detach())
        for (name, weight), grad in zip(model.named_parameters(), grads, strict=True):
            assert found[name].shape == weight.shape
            assert_near(found[name], grad)
    ids = torch.randint(97, (6, 13), generator=torch.Generator().manual_seed(9))
    total = gpu_step.loss_sum(ids[:, :-1], ids[:, 1:])
    torch.testing.assert_close(total, model.loss(ids[:, :-1], ids[:, 1:], "sum").detach())


@pytest.mark.parametrize("windows", [2, 6, 5])
def test_slice_loss_is_the_plain_one(small_params: Params, windows):
    """In full batches, some of them two at once; five windows are not."""
    config = ModelConfig(context_length=12, embedding_size=32, layers=1, heads=2)
    params = small_params.model_copy(
        update={"model": config, "train": small_params.train.model_copy(update={"batch_size": 2})}
    )
    tokens = np.arange(100, dtype=np.uint16) % 97
    step = TrainStep(params, 97, tokens, Backend(torch.device("cpu"), torch.float32, compiled=False))
    step.model.load_state_dict(random_weights(config).state_dict())
    ids = torch.randint(97, (windows, 13), generator=torch.Generator().manual_seed(9))
    expected = step.slice_loss(ids)
    step._gpu_step = GpuStep(step.model, batch_size=2)
    assert step.slice_loss(ids) == pytest.approx(expected, rel=1e-6)


def test_sync_compute_weights_takes_loaded_weights():
    config = ModelConfig(context_length=8, embedding_size=32, layers=1, heads=2)
    model, other = random_weights(config), GPT(config, 97)
    other.initialize(3)
    gpu_step = GpuStep(model, batch_size=1)
    ids = torch.arange(9)[None]
    model.load_state_dict(other.state_dict())
    gpu_step.sync_compute_weights()
    loss = gpu_step.loss_sum(ids[:, :-1], ids[:, 1:])
    torch.testing.assert_close(loss, other.loss(ids[:, :-1], ids[:, 1:], "sum").detach())


# Matrices of a head or of some neurons in one program, larger ones in several, tall ones, for which there is no kernel.
@pytest.mark.parametrize("max_shape", [(64, 512), (16, 512), (8, 8)])
@pytest.mark.parametrize(
    "changes", [{}, {"weight_decay": 0.2}, {"gradient_clip": 0.0}, {"warmup_steps": 0, "cooldown": 0.0}]
)
def test_gpu_optimizer_updates_as_optimizer(small_params: Params, monkeypatch, changes, max_shape):
    monkeypatch.setattr(muon, "MAX_FUSED_SHAPE", max_shape)
    train = small_params.train.model_copy(update={"epochs": 1, "steps_per_epoch": 8, "warmup_steps": 2, **changes})
    config = ModelConfig(context_length=8, embedding_size=32, layers=2, heads=2)
    model, gpu_model = random_weights(config), random_weights(config)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    params = small_params.model_copy(update={"train": train})
    gpu_step, optimizer_config = GpuStep(gpu_model, batch_size=1), OptimizerConfig.from_params(params)
    optimizer, gpu_optimizer = Optimizer(model, optimizer_config), GpuOptimizer(gpu_model, optimizer_config, gpu_step)
    ids = torch.arange(9)[None]
    _, grads = gpu_step.loss_and_grads(ids[:, :-1], ids[:, 1:])
    for step in range(3):
        gpu_step.flat_grads.copy_(random(len(gpu_step.flat_grads), seed=step) * 0.01)
        at_step = torch.tensor(step), torch.tensor(lr_factor(step, train))
        expected = optimizer.update({name: grad.clone() for name, grad in grads.items()}, *at_step)
        torch.testing.assert_close(gpu_optimizer.update(grads, *at_step), expected)
    changed = {name: weight.detach() - before[name] for name, weight in model.named_parameters()}
    for name, weight in gpu_model.named_parameters():
        assert_near(weight.detach() - before[name], changed[name], 1e-3 if name in MATRICES else 1e-4)
        if name in gpu_step.compute_weights:
            assert torch.equal(gpu_step.compute_weights[name], weight)
    assert gpu_optimizer.state.keys() == optimizer.state.keys()
    for name, tensor in optimizer.state.items():
        assert_near(gpu_optimizer.state[name], tensor)


def test_is_supported_only_what_the_kernels_are_made_for():
    def supported(batch_size: int = 32, dtype: torch.dtype = torch.bfloat16, **changes: int) -> bool:
        config = ModelConfig(**{"context_length": 128, "embedding_size": 256, "layers": 1, "heads": 16, **changes})
        with torch.device("meta"):
            return is_supported(GPT(config, 300, dtype), batch_size)

    assert supported()
    assert not supported(context_length=129)
    assert not supported(heads=8, embedding_size=384)  # heads of 48
    assert not supported(dtype=torch.float32)
    assert not supported(embedding_size=2048, heads=32)
    assert not supported(batch_size=100_000)
