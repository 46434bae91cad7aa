"""benchmarks/quality.py and recipes.py: the recipes compared, the file of results, the table."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import quality, recipes
from benchmarks.gpt2_style import GPT2Style, schedule, trainer
from benchmarks.public_baseline import PublicBaseline
from benchmarks.results import RESULTS
from benchmarks.stories import Stories, prepare_stories
from tinystories.common.errors import UserError
from tinystories.common.params import ModelConfig, Params
from tinystories.corpus.stories import write_stories
from tinystories.training.run_key import PACKAGE

VOCAB = 300


def tokens(batch: int, length: int) -> torch.Tensor:
    return torch.randint(VOCAB, (batch, length), generator=torch.Generator().manual_seed(0))


def test_gpt2_style_starts_uniform(config: ModelConfig) -> None:
    ids = tokens(8, config.context_length + 1)
    loss = GPT2Style(config, VOCAB, seed=0).loss(ids[:, :-1], ids[:, 1:]).item()
    assert loss == pytest.approx(math.log(VOCAB), abs=0.05)


def test_public_baseline_starts_at_its_authors_loss() -> None:
    """Their first loss: 157 in the reference shape."""
    config = ModelConfig(context_length=128, embedding_size=256, layers=8, heads=16)
    ids = torch.randint(10_000, (2, 129), generator=torch.Generator().manual_seed(0))
    loss = PublicBaseline(config, 10_000, seed=0).eval().loss(ids[:, :-1], ids[:, 1:]).item()
    assert loss == pytest.approx(157, abs=5)


@pytest.mark.parametrize("kind", [GPT2Style, PublicBaseline])
def test_baselines_are_causal(kind: Any, config: ModelConfig) -> None:
    model = kind(config, VOCAB, seed=0).eval()
    ids = tokens(2, config.context_length)
    changed = ids.clone()
    changed[:, 7] = (ids[:, 7] + 1) % VOCAB
    before, after = model(ids), model(changed)
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:])


def test_gpt2_style_trains_every_weight(config: ModelConfig) -> None:
    model = GPT2Style(config, VOCAB, seed=0)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    ids = tokens(8, config.context_length + 1)
    train = trainer(model, steps=20, learning_rate=1e-2, compiled=False)
    losses = [train(step, ids[:, :-1], ids[:, 1:]).item() for step in range(20)]
    assert losses[-1] < losses[0] - 0.5
    assert [name for name, weight in model.named_parameters() if torch.equal(weight, before[name])] == []


def test_schedule_warms_up_and_decays_to_a_tenth() -> None:
    factors = [schedule(step, 100) for step in range(100)]
    assert factors[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert factors[3] == pytest.approx(1)
    assert sorted(factors[3:], reverse=True) == factors[3:]
    assert factors[-1] == pytest.approx(0.1, abs=0.001)


@pytest.fixture(scope="module")
def sample(stories: list[str], tmp_path_factory: pytest.TempPathFactory) -> Stories:
    folder = tmp_path_factory.mktemp("sample")
    numbered = [f"{number}. {story}" for number, story in enumerate(stories * 4)]  # else most would be copies
    write_stories(folder / "train.txt", numbered[20:])
    write_stories(folder / "valid.txt", numbered[:20])
    return prepare_stories(folder, folder / "cache", VOCAB)


@pytest.fixture
def tiny(small_params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes of a tiny shape, in fp32 and not compiled."""

    def make(recipe: str, steps: int, seed: int, config: str, overrides: dict[str, Any]) -> Params:
        changes = {"epochs": 1, "steps_per_epoch": steps, **{key.split(".")[1]: v for key, v in overrides.items()}}
        return small_params.model_copy(
            update={"seed": seed, "train": small_params.train.model_copy(update={**changes, "compile": "off"})}
        )

    monkeypatch.setattr(quality, "make_params", make)


def test_prepare_stories_splits_without_overlap(sample: Stories) -> None:
    assert sum(split.stories for split in sample.splits.values()) == 240
    assert 0 < sample.splits["dev"].stories < 40
    assert sample.splits["valid"].stories == 20


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("recipe", recipes.RECIPES)
def test_run_is_done_once(recipe: str, sample: Stories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "results" / "quality.jsonl"
    row = quality.run(recipe, 3, 1, results=results, stories=sample)
    assert row["tokens"] == 3 * 4 * 12
    assert 3 < row["valid_loss"] < 60
    assert row["valid_bits_per_byte"] > 0
    monkeypatch.setattr(quality, "_train", None)  # a second training would call it
    assert quality.run(recipe, 3, 1, results=results, stories=sample) == row
    assert [json.loads(line) for line in results.read_text().splitlines()] == [row]
    with pytest.raises(TypeError):
        quality.run(recipe, 3, 2, results=results, stories=sample)


@pytest.mark.usefixtures("tiny")
def test_run_dev_only_leaves_valid_alone(sample: Stories, tmp_path: Path) -> None:
    results = tmp_path / "quality.jsonl"
    search = quality.run("ours", 2, 1, results=results, stories=sample, dev_only=True)
    final = quality.run("ours", 2, 1, results=results, stories=sample)
    assert search["valid_loss"] is None
    assert final["valid_loss"] is not None
    assert search["dev_loss"] == final["dev_loss"]  # the same seed is the same training
    other = {"train.learning_rate": 0.03}
    changed = quality.run("ours", 2, 1, results=results, stories=sample, dev_only=True, overrides=other)
    assert changed["settings"]["learning_rate"] == 0.03
    assert changed["identity"] != search["identity"]
    assert [row["recipe"] for row in quality.measure(results)["rows"]] == ["ours"]
    labels = {row["recipe"] for row in quality.measure(results, split="dev")["rows"]}
    assert labels == {"ours", "ours train.learning_rate=0.03"}


@pytest.mark.usefixtures("tiny")
def test_run_trains_equal_recipes_once(sample: Stories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "quality.jsonl"
    ours = quality.run("ours", 2, 1, results=results, stories=sample)
    monkeypatch.setattr(quality, "_train", None)
    assert quality.run("trial", 2, 1, results=results, stories=sample) == {**ours, "recipe": "trial"}


def row(recipe: str, seed: int, loss: float, source: str = "new") -> dict[str, Any]:
    return {
        "recipe": recipe, "shape": "reference", "overrides": {}, "steps": 400, "seed": seed, "source": source,
        "settings": {"learning_rate": 1e-3}, "model": {}, "stories": "s", "precision": "bf16", "machine": "M",
        "dev_loss": loss, "valid_loss": loss, "valid_bits_per_byte": loss / 3, "tokens_per_second": 1000,
    }  # fmt: skip


def test_measure_compares_means_of_equal_seeds(tmp_path: Path) -> None:
    results = tmp_path / "quality.jsonl"
    rows = [
        row("ours", 1, 9.0, source="old"),
        row("ours", 1, 2.0),
        row("ours", 2, 3.0),
        row("gpt2", 2, 3.5),
        row("gpt2", 3, 4.5),
    ]
    results.write_text("".join(json.dumps(one) + "\n" for one in rows))
    table = quality.measure(results)
    assert [list(cells.values()) for cells in table["rows"]] == [
        ["400", "ours", "1, 2", "2.500", "1.000", "0.8333", "", "1,000"],
        ["400", "gpt2 0.001", "2, 3", "4.000", "1.000", "1.3333", "+0.500", "1,000"],
    ]
    assert "1 rows of an older recipe" in table["notes"][0]


def test_measure_names_a_broken_results_file(tmp_path: Path) -> None:
    results = tmp_path / "quality.jsonl"
    results.write_text('{"recipe": "ours"}\n{"rec')
    with pytest.raises(UserError, match=r"quality\.jsonl: a line is not JSON"):
        quality.measure(results)


def test_make_params_of_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = recipes.make_params("ours", 40, 3, "small", {"train.learning_rate": 0.03})
    assert (ours.seed, ours.train.steps, ours.train.learning_rate, ours.model.layers) == (3, 40, 0.03, 4)
    trial = recipes.make_params("trial", 40, 3, "reference", {})
    assert recipes.TRIAL.items() <= trial.train.model_dump().items()
    with pytest.raises(UserError, match=r"ours: train\.learning_rat is 1"):
        recipes.make_params("ours", 40, 3, "small", {"train.learning_rat": 1})
    with pytest.raises(UserError, match="--set is for"):
        recipes.make_params("gpt2", 40, 3, "small", {"train.learning_rate": 1.0})
    monkeypatch.setitem(recipes.TRIAL, "nesterov", True)
    with pytest.raises(UserError, match=r"trial: train\.nesterov"):
        recipes.make_params("trial", 40, 3, "reference", {})


def test_source_hash_ignores_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "model.py"
    monkeypatch.setitem(recipes.SOURCES, "library", [source])
    hashes = []
    for text in ('"""A."""\nx = 1\n', '"""B."""\nx = 1  # why\n', '"""B."""\nx = 2\n'):
        source.write_text(text)
        hashes.append(recipes.source_hash("library"))
    assert hashes[0] == hashes[1] != hashes[2]


def test_sources_are_all_the_code_that_trains() -> None:
    names = {path.relative_to(PACKAGE).as_posix() for path in recipes.SOURCES["library"]}
    assert {"model/cpu_kernels/attention.cpp", "training/gpu/step.py", "common/params.py"} <= names
    assert all(path.is_file() for paths in recipes.SOURCES.values() for path in paths)


def test_results_that_are_kept_can_be_read() -> None:
    rows = [row for path in RESULTS.glob("quality-*.jsonl") for row in quality.read_rows(path)]
    assert {row["recipe"] for row in rows} == set(recipes.RECIPES) - {"trial"}
    assert all(quality.measure(path)["rows"] for path in RESULTS.glob("quality-*.jsonl"))
