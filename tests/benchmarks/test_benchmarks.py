"""benchmarks/ at tiny sizes: contenders do the same work, results are written. All peers need the bench packages."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import gpt2_small, overhead, sharing, storygen, train_step
from benchmarks.contenders import (
    WARM_UP,
    Contender,
    SubprocessContender,
    Variant,
    interleave,
    matrix_product,
    ours,
    peer_contender,
)
from benchmarks.machine import describe
from benchmarks.peers import PEERS, Peer, matrix_weights, parameter_count
from benchmarks.results import merge, table
from benchmarks.workload import (
    REFERENCE,
    ROOT,
    TINY,
    TINY_VOCABULARY,
    VOCABULARY,
    benchmark_params,
    flops_per_step,
    zipf_tokens,
)
from tinystories.model.gpt import GPT

ABSENT = (
    "mlflow", "dvc", "pandas", "safetensors", "requests", "matplotlib", "huggingface_hub",
    "transformers", "litgpt", "x_transformers",
)  # fmt: skip
CPU = torch.device("cpu")

# x-transformers, as it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


@pytest.fixture(params=PEERS, ids=lambda peer: peer.name)
def peer(request: pytest.FixtureRequest) -> Peer:
    found: Peer = request.param
    if not found.installed:
        pytest.skip(f"{found.package} is not installed")
    return found


def test_peer_logits_are_causal(peer: Peer) -> None:
    tokens = torch.from_numpy(zipf_tokens(2 * TINY.context_length, TINY_VOCABULARY).astype(np.int64)).view(2, -1)
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % TINY_VOCABULARY
    for attention in peer.attentions:
        torch.manual_seed(0)
        model = peer.build(TINY, TINY_VOCABULARY, attention)
        logits, other = model(tokens), model(changed)
        assert logits.shape == (2, TINY.context_length, TINY_VOCABULARY)
        torch.testing.assert_close(logits[:, :-1], other[:, :-1])
        assert not torch.allclose(logits[:, -1], other[:, -1])


def test_peer_has_our_size(peer: Peer) -> None:
    with torch.device("meta"):
        mine, model = GPT(REFERENCE, VOCABULARY), peer.build(REFERENCE, VOCABULARY, peer.attentions[0])
    if peer.name == "nn.TransformerEncoder":  # the public baseline's feed-forward layers are small
        assert parameter_count(model) == pytest.approx(5.76e6, rel=0.01)
    else:
        assert parameter_count(model) == pytest.approx(mine.parameter_count(), rel=0.02)
    tables = [weight for weight in model.parameters() if weight.shape == (VOCABULARY, REFERENCE.embedding_size)]
    assert len(tables) == 1  # tied


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_peer_contender_learns(peer: Peer, dtype: torch.dtype) -> None:
    params = benchmark_params(tiny=True)
    tokens = zipf_tokens(10_000, TINY_VOCABULARY)
    losses: list[float] = []
    contender = peer_contender(peer, Variant(peer.attentions[0], dtype), params, TINY_VOCABULARY, tokens, CPU, losses)
    contender.run(30)
    assert losses[0] == pytest.approx(math.log(TINY_VOCABULARY), rel=0.15)
    assert np.mean(losses[-5:]) < losses[0] - 0.1


def test_ours_has_the_reference_shape() -> None:
    params = benchmark_params(device="cpu", compile="off")
    contender = ours(params, VOCABULARY, zipf_tokens(10_000, VOCABULARY))
    assert contender.parameters == GPT(REFERENCE, VOCABULARY).parameter_count()
    assert contender.flops == pytest.approx(32 * 128 * 55.5e6, rel=0.01)


def test_flops_per_step_follows_the_formula() -> None:
    weights = matrix_weights(GPT(REFERENCE, VOCABULARY))
    width, hidden = REFERENCE.embedding_size, REFERENCE.mlp_size
    assert weights == VOCABULARY * width + REFERENCE.layers * (4 * width**2 + 3 * width * hidden)
    assert flops_per_step(weights, benchmark_params()) == 32 * 128 * (6 * weights + 6 * 8 * 128 * 256)


def test_zipf_tokens_are_zipfian_and_repeat() -> None:
    tokens = zipf_tokens(100_000, 50)
    assert np.array_equal(tokens, zipf_tokens(100_000, 50))
    counts = np.bincount(tokens, minlength=50)
    assert counts.argmax() == 0 and counts.min() > 0
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.2)


def test_interleave_alternates() -> None:
    order: list[str] = []
    contenders = [
        Contender(name, "", lambda step, name=name: order.append(name), 1, 1.0, CPU)  # type: ignore[misc]
        for name in "ab"
    ]
    interleave(contenders, rounds=2, round_seconds=0.0, least=2)
    assert "".join(order[-12:]) == "aaabbbaaabbb"  # the first of three is not timed
    assert [len(contender.seconds) for contender in contenders] == [2, 2]
    assert [contender.steps for contender in contenders] == [9, 9]


@pytest.mark.slow
def test_best_of_keeps_the_fastest() -> None:
    work = (benchmark_params(True, device="cpu", compile="off"), TINY_VOCABULARY, zipf_tokens(10_000, TINY_VOCABULARY))
    begun = [SubprocessContender(ours, *contender).warm_up() for contender in (work, (None, 1, None), work)]
    working, tried = train_step._working(begun)
    assert working == [begun[0], begun[2]]
    assert len(tried) == 1 and "failed (AttributeError" in tried[0]
    assert all(contender.steps == WARM_UP for contender in working)
    best, tried = train_step._best_of(working, tried, batch=64)
    assert best is not None and best.seconds == []
    assert [line.split(":")[0] for line in tried] == ["one variant", best.variant, best.variant]
    (other,) = set(working) - {best}
    best.run(1)
    assert not other._process.is_alive()
    best.end()


def linear(*_: object) -> torch.nn.Module:
    return torch.nn.Linear(1, 1)


@pytest.mark.slow
def test_measure_training_step(tmp_path: Path) -> None:
    broken = Peer("broken", "torch", linear)
    missing = Peer("missing", "not_installed", linear)
    result = train_step.measure(CPU, peers=(PEERS[0], broken, missing), tiny=True)
    assert [row["contender"] for row in result["rows"]] == ["ours", PEERS[0].name]
    assert all(row["tokens/s"] > 0 and row["utilization"].endswith("%") for row in result["rows"])
    notes = "\n".join(result["notes"])
    assert "missing: not installed" in notes and "broken" in notes and "failed" in notes
    merge(tmp_path / "cpu.json", CPU, "train_step", result)


def test_merge_keeps_other_parts(tmp_path: Path) -> None:
    path = tmp_path / "results" / "cpu.json"
    one = {"title": "One", "columns": ["what", "ms"], "rows": [{"what": "x", "ms": 1.5}], "notes": ["a note"]}
    merge(path, CPU, "one", one)
    merge(path, CPU, "two", {"title": "Two", "rows": []})
    merge(path, CPU, "one", {**one, "title": "One again"})
    written = json.loads(path.read_text())
    assert written["parts"].keys() == {"one", "two"}
    assert written["parts"]["one"]["title"] == "One again"
    assert written["machine"] == describe(CPU)
    assert table(one).splitlines() == ["One", "", "what   ms", "----  ---", "x     1.5", "* a note"]


def test_matrix_product_reaches_a_plausible_rate() -> None:
    product = matrix_product(torch.bfloat16, 256, CPU)
    assert product.variant == "bf16, 256 × 256"
    assert product.flops == 2 * 256**3
    assert 1e8 < product.flops / product.run(3) < 1e15


def test_row_compares_within_rounds() -> None:
    contender = Contender("", "", lambda _: None, 1, 8e9, CPU)
    rows = train_step._row(contender, [2.0, 4.0, 8.0], [1.0, 1.0, 8.0], [5e9, 4e9, 1e10], batch=8)
    assert rows["tokens/s"] == 2 and rows["slowest"] == 1 and rows["fastest"] == 4
    assert rows["utilization"] == "50.0%"  # of 80 %, 50 %, 10 %
    assert rows["ours is faster"] == "2.00"  # of 2, 4, 1


def test_storygen_measures_identical_files() -> None:
    result = storygen.measure(stories=100)
    assert all(row["MB/s"] > 0 for row in result["rows"]) and "files identical" in result["notes"]


@pytest.mark.slow
def test_sharing_measures_each_setting_in_each_situation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "PROCESSES", 2)  # each imports PyTorch
    rows = sharing.measure(tiny=True)["rows"]
    assert [row["setting"] for row in rows] == list(sharing.SETTINGS)
    assert all(
        row[column] > 0 for row in rows for column in ("alone", "beside busy processes", "four at once, together")
    )


@pytest.mark.slow
def test_gpt2_small_compares_with_and_without_micro_batches() -> None:
    rows = gpt2_small.measure(tiny=True)["rows"]
    assert [row["contender"] for row in rows] == ["ours", "ours, one window at a time", "GPT-2 as in nanoGPT"]
    assert rows[0]["parameters"] == rows[1]["parameters"] and rows[0]["ours is faster"] == "1.00"
    assert all(row["tokens/s"] > 0 for row in rows)


def test_overhead_accounts_for_all_time() -> None:
    (row,) = overhead.measure(tiny=True)["rows"]
    assert row["steps"] == 35
    assert row["ms/step inside"] > 0 and row["ms/step outside"] > 0
    cost = (row["ms/step outside"] + row["ms/step background"]) / row["ms/step inside"]
    assert float(row["cost"].rstrip("%")) == pytest.approx(100 * cost, abs=0.5)


@pytest.mark.slow
def test_gpu_runs_on_a_bare_machine(tmp_path: Path) -> None:
    """On the CPU, with tiny sizes, and without the packages that a bare machine has not."""
    out = tmp_path / "gpu.json"
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules.update(dict.fromkeys({ABSENT}))")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--tiny", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    parts = json.loads(out.read_text())["parts"]
    assert parts.keys() == {"reference_run", "correctness", "waiting", "train_step"}
    assert parts["correctness"]["passed"]
    assert [row["twice the same bits"] for row in parts["correctness"]["rows"]] == ["yes", "yes"]
    assert parts["reference_run"]["steps"] == 80 and not parts["reference_run"]["estimated"]
    assert len(parts["reference_run"]["epochs"]) == 2
    assert parts["reference_run"]["last_loss"] < parts["reference_run"]["first_loss"]
