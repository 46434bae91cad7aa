"""benchmarks/quality.py and recipes.py: the recipes compared, the file of results, the table."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import quality, quality_table, recipes
from benchmarks.gpt2_style import GPT2Style, schedule, trainer
from benchmarks.public_baseline import PublicBaseline
from benchmarks.results import RESULTS
from benchmarks.stories import Stories, prepare_stories
from tinystories.common.errors import UserError
from tinystories.common.params import ModelConfig, Params
from tinystories.corpus.stories import write_stories

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
    numbered = [f"{number}. {story}" for number, story in enumerate(stories * 12)]  # else most would be copies
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
    assert sum(split.stories for split in sample.splits.values()) == 720
    assert 0 < sample.splits["dev"].stories < 30
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
    assert [row["recipe"] for row in quality_table.measure(results)["rows"]] == ["ours"]
    labels = {row["recipe"] for row in quality_table.measure(results, split="dev")["rows"]}
    assert labels == {"ours", "ours train.learning_rate=0.03"}


def row(recipe: str, seed: int, loss: float, source: str = "new") -> dict[str, Any]:
    return {
        "recipe": recipe, "shape": "reference", "overrides": {}, "steps": 400, "seed": seed, "source": source,
        "settings": {"learning_rate": 1e-3}, "model": {}, "stories": "s", "precision": "bf16", "machine": "M",
        "dev_loss": loss, "valid_loss": loss, "valid_bits_per_byte": loss / 3, "tokens_per_second": 1000,
    }  # fmt: skip


def write(results: Path, rows: list[dict[str, Any]]) -> Path:
    results.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return results


def test_measure_compares_means_of_equal_seeds(tmp_path: Path) -> None:
    results = write(
        tmp_path / "quality.jsonl",
        [
            row("ours", 1, 9.0, source="old"),
            row("ours", 1, 2.0),
            row("ours", 2, 3.0),
            row("gpt2", 2, 3.5),
            row("gpt2", 3, 4.5),
        ],
    )
    table = quality_table.measure(results)
    assert [list(cells.values()) for cells in table["rows"]] == [
        ["400", "ours", "1, 2", "2.5000", "0.8333", "", "", "", "1,000"],
        ["400", "gpt2 0.001", "2, 3", "4.0000", "1.3333", "+0.5000", "1", "one seed", "1,000"],
    ]
    assert "1 rows of an older recipe" in table["notes"][0]


@pytest.mark.parametrize(
    ("gaps", "shown", "verdict"),
    [((-0.02, -0.03, -0.04), "-0.0300 ± 0.0058", "better"), ((0.0, -0.03, -0.06), "-0.0300 ± 0.0173", "no gain"),
     ((0.02, 0.02, 0.02), "+0.0200 ± 0.0000", "worse")],
)  # fmt: skip
def test_measure_calls_less_than_two_standard_errors_no_gain(
    gaps: tuple[float, ...], shown: str, verdict: str, tmp_path: Path
) -> None:
    seeds = {1: 2.0, 2: 2.5, 3: 3.0}  # the seeds differ more than the recipes do
    rows = [row("ours", seed, loss) for seed, loss in seeds.items()]
    rows += [row("gpt2", seed, seeds[seed] + gap) for seed, gap in zip(seeds, gaps, strict=True)]
    cells = {one["recipe"]: one for one in quality_table.measure(write(tmp_path / "quality.jsonl", rows))["rows"]}
    assert (cells["gpt2 0.001"]["difference"], cells["gpt2 0.001"]["verdict"]) == (shown, verdict)


def test_measure_compares_with_the_best_rate_or_the_row_named(tmp_path: Path) -> None:
    fast = {"overrides": {"train.learning_rate": 0.01}}
    rows = [
        {**row("ours", seed, 2.0 + change), **over} for seed in (1, 2) for change, over in ((0.0, {}), (-0.5, fast))
    ]
    results = write(tmp_path / "quality.jsonl", [*rows, {**row("ours", 1, 1.0), "variant": "soap"}])
    best = "ours train.learning_rate=0.01"
    assert [one["recipe"] for one in quality_table.measure(results)["rows"] if not one["difference"]] == [best]
    assert [
        one["recipe"] for one in quality_table.measure(results, against="ours")["rows"] if not one["difference"]
    ] == ["ours"]
    with pytest.raises(UserError, match=r"--against 'sop': expected one of ours, ours soap, ours train"):
        quality_table.measure(results, against="sop")


def test_tune_climbs_to_the_best_rate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sample: Stories) -> None:
    tried: list[float] = []

    def run(recipe: str, steps: int, seed: int, **given: Any) -> dict[str, Any]:
        rate = given["learning_rate"] if recipe == "gpt2" else given["overrides"]["train.learning_rate"]
        tried.append(rate)
        return {"dev_loss": abs(math.log(rate / 0.002))}

    monkeypatch.setattr(quality, "run", run)
    assert quality.tune("gpt2", 400, tmp_path, sample) == 0.002
    assert max(tried) == 0.003
    assert quality.tune("ours", 400, tmp_path, sample) == 0.004  # the end of the ladder


def test_measure_names_a_broken_results_file(tmp_path: Path) -> None:
    results = tmp_path / "quality.jsonl"
    results.write_text('{"recipe": "ours"}\n{"rec')
    with pytest.raises(UserError, match=r"quality\.jsonl: a line is not JSON"):
        quality_table.measure(results)


def test_make_params_of_a_recipe() -> None:
    ours = recipes.make_params("ours", 40, 3, "small", {"train.learning_rate": 0.03})
    assert (ours.seed, ours.train.steps, ours.train.learning_rate, ours.model.layers) == (3, 40, 0.03, 4)
    with pytest.raises(UserError, match=r"ours: train\.learning_rat is 1"):
        recipes.make_params("ours", 40, 3, "small", {"train.learning_rat": 1})
    with pytest.raises(UserError, match="--set is for"):
        recipes.make_params("gpt2", 40, 3, "small", {"train.learning_rate": 1.0})


def test_source_hash_ignores_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "model.py"
    monkeypatch.setitem(recipes.SOURCES, "gpt2", [source])
    hashes = []
    for text in ('"""A."""\nx = 1\n', '"""B."""\nx = 1  # why\n', '"""B."""\nx = 2\n'):
        source.write_text(text)
        hashes.append(recipes.source_hash("gpt2"))
    assert hashes[0] == hashes[1] != hashes[2]


def test_source_hash_changes_with_the_golden_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of other recipes do not: their trainings are as before."""
    before = {recipe: recipes.source_hash(recipe) for recipe in recipes.RECIPES}
    golden = json.loads(recipes.GOLDEN.read_text())
    golden["losses"]["squares"][-1] += 1e-6
    (tmp_path / "golden.json").write_text(json.dumps(golden))
    monkeypatch.setattr(recipes, "GOLDEN", tmp_path / "golden.json")
    changed = [recipe for recipe in recipes.RECIPES if recipes.source_hash(recipe) != before[recipe]]
    assert changed == ["ours"]


def test_results_that_are_kept_can_be_read() -> None:
    rows = [row for path in RESULTS.glob("quality-*.jsonl") for row in quality_table.read_rows(path)]
    assert {row["recipe"] for row in rows} == set(recipes.RECIPES)
    assert all(quality_table.measure(path)["rows"] for path in RESULTS.glob("quality-*.jsonl"))
