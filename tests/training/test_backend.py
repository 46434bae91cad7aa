"""The backend: where compiled code is kept, what is worth compiling."""

from tests.support.repository import ROOT
from tinystories.common.params import load_params
from tinystories.training import backend as module
from tinystories.training.backend import choose_backend, training_flops


def test_choose_backend_keeps_compiled_code_in_the_state_directory(small_params, workspace, monkeypatch):
    """PyTorch loads it by pickle; its default is a directory in /tmp, which another user may have made before."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    used = []
    monkeypatch.setattr(module, "probe_compile", lambda device: used.append(cache_dir()))
    compiled = small_params.model_copy(update={"train": small_params.train.model_copy(update={"compile": "on"})})
    assert choose_backend(compiled, 300).compiled
    assert used == [str(workspace / ".state" / "compiled")]
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/elsewhere")
    choose_backend(compiled, 300)
    assert used[1:] == ["/elsewhere"]


def test_training_flops_are_six_a_token_and_weight():
    params = load_params(ROOT / "params.yaml")
    config, vocab_size = params.model, 10_000
    block = 4 * config.embedding_size**2 + 3 * config.embedding_size * config.mlp_size
    tokens = params.train.steps * params.train.batch_size * config.context_length
    weights = config.layers * block + vocab_size * config.embedding_size
    assert training_flops(params, vocab_size) == 6.0 * weights * tokens
