"""Whatever the bytes of a file, its reader gives the right result, or one line that refuses it.

FUZZ_EXAMPLES sets how many inputs each test tries; the count of all is printed at the end.
"""

import os
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from dvc.utils.serialize import parse_yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.support.corruption import corrupted, corrupted_json
from tests.support.report_files import write_run
from tinystories.common import paths
from tinystories.common.artifacts import EpochRow, HistoryRow
from tinystories.common.errors import UserError
from tinystories.common.files import sha256_of
from tinystories.common.params import Params, load_params
from tinystories.common.reading import read_csv, read_json
from tinystories.corpus.stories import SEPARATOR, read_stories
from tinystories.encoding.writer import write_meta
from tinystories.model.checkpoint import load_checkpoint, save_checkpoint
from tinystories.model.gpt import GPT
from tinystories.publishing.run_data import read_run_data
from tinystories.reporting.figure import draw_run
from tinystories.reporting.report import loss_table, write_report
from tinystories.tokenization.token_files import TokenMeta, check_counts, matching_tokenizer, open_tokens, read_meta
from tinystories.tokenization.tokenizer import load_tokenizer
from tinystories.training.resume import TENSORS, TRAINER_STATE, ResumeCheckpoint, TrainerState

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))
MOST_MEMORY = 1_000_000  # kilobytes
COMMITTED = (Path(__file__).parents[2] / "params.yaml").read_bytes()

tried: Counter[str] = Counter()
refused: Counter[str] = Counter()
slowest: dict[str, float] = {}


def fuzz(share: float = 1.0) -> Callable[[Any], Any]:
    """`share`: of EXAMPLES, for what takes long. The suite always tries the same inputs, a campaign new ones."""
    return settings(
        max_examples=max(int(EXAMPLES * share), 3),
        derandomize="FUZZ_EXAMPLES" not in os.environ,
        database=None,
        deadline=None,
        phases=[Phase.generate],  # to find the smallest input can take longer than the whole campaign
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Count an input; a UserError in the block is fine, if it is one line that a terminal can show."""
    tried[what] += 1
    start = time.monotonic()
    try:
        yield
    except UserError as error:
        refused[what] += 1
        message = str(error)
        assert message.isprintable(), message
        assert len(message) < 600, message
    slowest[what] = max(slowest.get(what, 0.0), time.monotonic() - start)


@pytest.fixture(scope="module", autouse=True)
def report_of_the_campaign(request: pytest.FixtureRequest) -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    capture: Any = request.config.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n{tried.total():,} inputs tried, {refused.total():,} refused; memory grew by {grown / 1e3:.0f} MB")
        if "FUZZ_EXAMPLES" in os.environ:
            for what, count in tried.items():
                print(f"  {what}: {count:,}, refused {refused[what]:,}, slowest {slowest[what]:.2f} s")
    assert grown < MOST_MEMORY


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


# Parameters


def load(directory: Path, data: bytes) -> Params:
    (directory / "params.yaml").write_bytes(data)
    return load_params(directory / "params.yaml")


def check_params(directory: Path, data: bytes) -> None:
    with reading("params.yaml"):
        ours = load(directory, data).model_dump(mode="json")
        theirs: Any = parse_yaml(data.decode(), "params.yaml")
        if isinstance(switch := theirs["train"]["compile"], bool):
            theirs["train"]["compile"] = "on" if switch else "off"
        assert ours == theirs, "DVC reads something else"


@fuzz()
@given(data=corrupted(COMMITTED))
def test_damaged_parameters(directory, data):
    check_params(directory, data)


@fuzz(0.5)
@given(data=st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_random_parameters(directory, data):
    check_params(directory, data)


LINES = [line for line in COMMITTED.decode().splitlines() if ":" in line and not line.rstrip().endswith(":")]


@fuzz()
@given(
    line=st.sampled_from(LINES), value=corrupted(b"0.02") | corrupted(b"[Once upon, a time]") | st.binary(max_size=6)
)
def test_one_parameter_of_any_value(directory, line, value):
    before, after = COMMITTED.split(line.encode(), 1)
    check_params(directory, before + line.split(":")[0].encode() + b": " + value + after)


# Stories


PARTS = st.binary(max_size=6) | st.sampled_from([SEPARATOR.encode(), b"<|end", b"\r\n", b"\xf0\x9f\x90\x89"])


@fuzz()
@given(data=st.lists(PARTS).map(b"".join), block_size=st.integers(1, 20))
def test_stories(directory, data, block_size):
    (directory / "stories.txt").write_bytes(data)
    with reading("stories"):
        found = list(read_stories(directory / "stories.txt", block_size=block_size))
        text = data.decode().removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        assert found == [story.strip() for story in text.split(SEPARATOR) if story.strip()]


# Tokens and tokenizer


@pytest.fixture(scope="module")
def whole_meta(directory: Path, token_file: Any, tokenizer_file: Path) -> bytes:
    split = token_file[1]
    write_meta(TokenMeta(300, sha256_of(tokenizer_file), split, split), directory / "meta.json")
    return (directory / "meta.json").read_bytes()


def read_tokens(meta_file: Path, token_file: Path, tokenizer_file: Path) -> TokenMeta:
    """As the stages train and evaluate do it."""
    meta = read_meta(meta_file)
    tokenizer = matching_tokenizer(meta, tokenizer_file)
    for split in (meta.train, meta.valid):
        check_counts(token_file, open_tokens(token_file, split, meta.vocab_size), split, tokenizer)
    return meta


@fuzz()
@given(data=st.data())
def test_a_meta_that_lies(directory, whole_meta, token_file, tokenizer_file, data):
    (directory / "whole.json").write_bytes(whole_meta)
    (directory / "meta.json").write_bytes(data.draw(corrupted_json(whole_meta)))
    with reading("meta.json"):
        found = read_tokens(directory / "meta.json", token_file[0], tokenizer_file)
        assert found == read_meta(directory / "whole.json")


@fuzz()
@given(data=st.data())
def test_damaged_tokens(directory, whole_meta, token_file, tokenizer_file, data):
    whole = token_file[0].read_bytes()
    (directory / "meta.json").write_bytes(whole_meta)
    (directory / "tokens.bin").write_bytes(other := data.draw(corrupted(whole)))
    with reading("tokens.bin"):
        read_tokens(directory / "meta.json", directory / "tokens.bin", tokenizer_file)
        assert other == whole


@fuzz()
@given(data=st.data(), text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_a_damaged_tokenizer(directory, tokenizer_file, data, text):
    path = directory / "tokenizer.json"
    path.write_bytes(data.draw(corrupted_json(tokenizer_file.read_bytes())))
    with reading("tokenizer.json"):
        tokenizer: Tokenizer = load_tokenizer(path)
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
        assert max(ids, default=0) < tokenizer.get_vocab_size() <= 65_536


# Checkpoint and state


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.fixture(scope="module")
def model(random_model: Callable[..., GPT]) -> GPT:
    return random_model()


@pytest.fixture(scope="module")
def whole_checkpoint(model: GPT, tokenizer_file: Path, directory: Path) -> Path:
    save_checkpoint(model, tokenizer_file, directory / "whole")
    return directory / "whole"


def check_checkpoint(directory: Path, whole: Path, name: str, data: bytes, model: GPT) -> None:
    shutil.copytree(whole, directory / "checkpoint", dirs_exist_ok=True)
    (directory / "checkpoint" / name).write_bytes(data)
    with reading(name):
        loaded = load_checkpoint(directory / "checkpoint")
        assert loaded.config == model.config
        assert same(loaded.state_dict(), model.state_dict())


@fuzz()
@given(data=st.data())
def test_a_damaged_config(directory, whole_checkpoint, model, data):
    damage = data.draw(corrupted_json((whole_checkpoint / "config.json").read_bytes()))
    check_checkpoint(directory, whole_checkpoint, "config.json", damage, model)


@fuzz()
@given(data=st.data())
def test_damaged_weights(directory, whole_checkpoint, model, data):
    whole = (whole_checkpoint / "model.safetensors").read_bytes()
    first = 8 + int.from_bytes(whole[:8], "little")
    header, weights = whole[:first], whole[first:]
    damage = data.draw(corrupted(whole) | corrupted(header).map(lambda other: other + weights))
    check_checkpoint(directory, whole_checkpoint, "model.safetensors", damage, model)


@fuzz()
@given(data=st.data(), name=st.sampled_from([TRAINER_STATE, TENSORS]))
def test_a_damaged_state(directory, data, name):
    saved, tensors = ResumeCheckpoint(directory / "state"), {"a": torch.arange(12.0).view(3, 4), "b": torch.tensor(2)}
    row = HistoryRow(
        step=20, tokens=80, loss=3.25, learning_rate=1e-5, gradient_norm=0.5, tokens_per_second=40.0, seconds=2.0
    )
    state = TrainerState(started="then", step=20, seconds=1.5, history=[row], samples=["Once."])
    saved.save(tensors, state)
    path = next((directory / "state").glob("step-*")) / name
    whole = path.read_bytes()
    path.write_bytes(data.draw(corrupted_json(whole) if name == TRAINER_STATE else corrupted(whole)))
    with reading(f"state, {name}"):
        if (loaded := saved.load(tensors)) is None:
            refused[f"state, {name}"] += 1
        else:
            assert same(loaded[0], tensors)
            assert loaded[1] == state


# What `plot` and `publish` read


@pytest.fixture
def run(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that the stages before have written, in the current directory."""
    shutil.rmtree(directory / "run", ignore_errors=True)
    (directory / "run").mkdir()
    monkeypatch.chdir(directory / "run")
    write_run(epochs=2)
    paths.PARAMS.write_bytes(COMMITTED)
    for path in (paths.REPORT, paths.PLOT, paths.CHECKPOINT / "config.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("some")
    return directory / "run"


JSON_FILES = (paths.RAW_MANIFEST, paths.TOKENS_META, paths.TRAIN_METRICS, paths.EVALUATION, paths.RUN)


@pytest.mark.parametrize("path", JSON_FILES, ids=str)
@fuzz(0.5)
@given(data=st.data())
def test_corrupted_json_of_a_run(run, path, data):
    whole = path.read_bytes()
    path.write_bytes(data.draw(corrupted_json(whole)))
    for what, read in (("report", lambda: write_report(load_params())), ("run data", read_run_data)):
        with reading(f"{path}, {what}"):
            read()
    path.write_bytes(whole)


@fuzz()
@given(data=st.data())
def test_any_json(directory, data):
    whole = b'{"a": [1, 2.5, null, true, {"b": "c\\u00e9"}], "d": {}}'
    (directory / "a.json").write_bytes(data.draw(corrupted_json(whole) | st.binary(max_size=50)))
    with reading("any JSON"):
        assert isinstance(read_json(directory / "a.json"), dict)


@pytest.mark.parametrize("kind", [HistoryRow, EpochRow])
@fuzz(0.5)
@given(data=st.data())
def test_damaged_tables(run, kind, data):
    path = kind.PATH
    whole = path.read_bytes()
    path.write_bytes(data.draw(corrupted(whole)))
    with reading(f"{path}, run data"):
        read_run_data()
    with reading(f"{path}, table"):
        table = kind.read_table()
        assert len(table) == len(read_csv(path, "train"))
        if kind is EpochRow:
            loss_table(table)
    path.write_bytes(whole)


@fuzz(0.5)
@given(data=st.data(), name=st.sampled_from(["epoch_1.md", "final.md"]))
def test_damaged_samples(run, data, name):
    whole = (paths.SAMPLES / name).read_bytes()
    (paths.SAMPLES / name).write_bytes(data.draw(corrupted(whole)))
    with reading("samples"):
        write_report(load_params())
        assert paths.REPORT.read_text().startswith("# GPT, ")
    (paths.SAMPLES / name).write_bytes(whole)


NUMBERS = st.sampled_from([0.0, 5e-324, 1e-300, 1e-12, 0.5, 1.0, 3.0, 700.0, 710.0, 1e3, 1e5, 1e9, 1e15])


@fuzz(0.2)
@given(data=st.data())
def test_a_plot_of_any_numbers(run, data):
    whole = EpochRow.read_table()
    for path in (paths.HISTORY, paths.EPOCHS):
        header, *rows = [line.split(",") for line in path.read_text().splitlines()]
        for _ in range(data.draw(st.integers(0, 4))):
            row, column = data.draw(st.sampled_from(rows)), data.draw(st.integers(0, len(header) - 1))
            row[column] = repr(data.draw(NUMBERS))
        path.write_text("\n".join(map(",".join, [header, *rows])) + "\n")
    with reading("plot"):
        figure = draw_run(HistoryRow.read_table(), EpochRow.read_table(), "title")
        figure.set_dpi(20)
        figure.draw_without_rendering()
    EpochRow.write_table(whole)
