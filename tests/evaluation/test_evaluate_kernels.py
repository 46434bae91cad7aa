"""The stage `evaluate`, in one process: which kernels it uses. Needs a C++ compiler."""

import pytest
import torch

from tinystories.common import paths
from tinystories.common.artifacts import EpochIndex
from tinystories.common.params import ModelConfig
from tinystories.evaluation import evaluate as module
from tinystories.inference import decoder, loss_eval
from tinystories.inference.cpu_decoder import CpuDecoder
from tinystories.inference.decoder import Decoder
from tinystories.model.checkpoint import save_checkpoint
from tinystories.model.ops import implementation

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("compile", "expected"), [("auto", "cpp"), ("on", "cpp"), ("off", "plain")])
def test_evaluate_uses_cpp_kernels_unless_compile_is_off(
    workspace, kernels, small_params, random_model, monkeypatch, precision, compile, expected
):
    """For the loss, in its precision, and for the samples, in fp32, once for each epoch."""
    kernels.clear()
    model = random_model(ModelConfig(context_length=12, embedding_size=32, layers=1, heads=2))
    paths.CHECKPOINT.parent.mkdir(exist_ok=True)
    save_checkpoint(model, paths.TOKENIZER, paths.CHECKPOINT)
    save_checkpoint(model, paths.TOKENIZER, paths.epoch_checkpoint(1))
    EpochIndex(epochs=[1, 2], best=2).write()
    dtypes, decoders = [], []

    def evaluate_loss(model, *arguments):
        dtypes.append((model.compute_dtype, implementation(CPU, model.compute_dtype, model.config.head_size)))
        return real_evaluate_loss(model, *arguments)

    def make_decoder(*arguments):
        decoders.append(real_make_decoder(*arguments))
        return decoders[-1]

    real_evaluate_loss, real_make_decoder = loss_eval.evaluate_loss, decoder.make_decoder
    monkeypatch.setattr(module, "evaluate_loss", evaluate_loss)
    monkeypatch.setattr("tinystories.inference.generate.make_decoder", make_decoder)
    module.evaluate(
        small_params.model_copy(
            update={
                "train": small_params.train.model_copy(update={"compile": compile}),
                "evaluate": small_params.evaluate.model_copy(update={"precision": precision}),
            }
        )
    )
    assert dtypes == [(torch.bfloat16 if precision == "bf16" else torch.float32, expected)]
    assert [type(one) for one in decoders] == [CpuDecoder if expected == "cpp" else Decoder] * 2
    assert paths.EVALUATION.exists() and paths.FINAL_SAMPLES.exists()
