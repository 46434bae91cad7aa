"""Where every file is, relative to the directory in which the stages run (see dvc.yaml)."""

import os
from pathlib import Path
from typing import Literal

PARAMS = Path("params.yaml")

RAW_TRAIN = Path("data/raw/train.txt")
RAW_VALID = Path("data/raw/valid.txt")
RAW_MANIFEST = Path("data/raw/manifest.json")  # written last

PARENTS = Path("data/own/parent")  # where a checkpoint directory that `train.init_from` names lies: DVC watches it
TOKENIZER = Path("data/tokenizer/tokenizer.json")
PARENT_RECORD = Path("data/tokenizer/parent/record.json")  # always there, so that the directory is never empty
PARENT = Path("data/tokenizer/parent/checkpoint")  # the copy that the training begins from

TOKENS_TRAIN = Path("data/tokens/train.bin")
TOKENS_VALID = Path("data/tokens/valid.bin")
TOKENS_META = Path("data/tokens/meta.json")

CHECKPOINT = Path("models/checkpoint")
BEST = Path("models/best")  # of the epoch with the lowest validation loss, which may be the last
RUN = Path("models/run.json")
EPOCH_CHECKPOINTS = Path("models/epochs")  # of earlier epochs, as CHECKPOINT is of the last
EPOCH_INDEX = Path("models/epochs/index.json")

CORPUS_FIGURES = Path("reports/data.json")
HISTORY = Path("reports/history.csv")
EPOCHS = Path("reports/epochs.csv")
SAMPLES = Path("reports/samples")
TRAIN_METRICS = Path("reports/train.json")
FINAL_SAMPLES = Path("reports/samples/final.md")
EVALUATION = Path("reports/evaluate.json")
STORIES = Path("reports/stories.json")
PLOT = Path("reports/plot.png")
REPORT = Path("reports/report.md")
REPORT_HTML = Path("reports/report.html")
MODEL_CARD = Path("reports/model_card.md")
RECEIPT = Path("reports/publish.json")
COMPARISON_PLOT = Path("reports/compare.png")  # of several runs, by `tinystories compare`
COMPARISON_PAGE = Path("reports/compare.html")


def epoch_checkpoint(number: int, directory: Path = EPOCH_CHECKPOINTS) -> Path:
    """Where the weights after an epoch, counted from 1, are."""
    return directory / f"epoch_{number}"


def published(model: Literal["last", "best"]) -> Path:
    """The checkpoint directory that `publish.model` means."""
    return BEST if model == "best" else CHECKPOINT


def epoch_samples(number: int) -> Path:
    """Where the samples after an epoch, counted from 1, are."""
    return SAMPLES / f"epoch_{number}.md"


def repository_root() -> Path:
    """The root of the user's repository, absolute: DVC_ROOT under DVC, else the current directory.

    `dvc exp run --temp` and `--queue` run stages in a temporary copy. What must outlive a stage (resume checkpoints,
    partial downloads, the MLflow database) is under the root instead.
    """
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def state_directory() -> Path:
    """`.state/` at the root: what survives a killed stage. Ignored by git, unknown to DVC."""
    return repository_root() / ".state"


def training_states() -> Path:
    """The resume checkpoints, a directory for each run key."""
    return state_directory() / "train"
