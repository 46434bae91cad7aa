"""Runs the GPU's kernels in Triton's interpreter, where there is no GPU."""

import importlib
import importlib.util
from collections.abc import Iterator

import pytest
import torch

if importlib.util.find_spec("triton") and not torch.cuda.is_available():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")  # Triton reads it as the kernels are imported
        importlib.import_module("tinystories.training.gpu.optimizer")


@pytest.fixture(scope="module", autouse=True)
def interpreter() -> Iterator[None]:
    """Run fewer programs, each with more to do, because they run one after the other."""
    if torch.cuda.is_available():
        pytest.skip("with a GPU the kernels are compiled for it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.setattr("tinystories.training.gpu.pointwise.NUM_PARTIALS", 3)
        patch.setattr("tinystories.training.gpu.muon.NUM_PARTIALS", 4)
        yield
