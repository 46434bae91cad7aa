"""Where everything lies, relative to the directory in which the stages run (see dvc.yaml)."""

import os
from pathlib import Path

PARAMS = Path("params.yaml")

RAW_TRAIN = Path("data/raw/train.txt")
RAW_VALID = Path("data/raw/valid.txt")
RAW_MANIFEST = Path("data/raw/manifest.json")  # the last of the three
DOWNLOADS = Path("data/raw/.downloads")  # of one name, so that what a killed stage left goes with the next one

TOKENIZER = Path("data/tokenizer/tokenizer.json")

TOKENS_TRAIN = Path("data/tokens/train.bin")
TOKENS_VALID = Path("data/tokens/valid.bin")
TOKENS_META = Path("data/tokens/meta.json")

CHECKPOINT = Path("models/checkpoint")
RUN = Path("models/run.json")
# DVC wants every output inside one stage's: train writes its samples here, evaluate lays them beside the final ones.
EPOCH_SAMPLES = Path("models/samples")

HISTORY = Path("reports/history.csv")
EPOCHS = Path("reports/epochs.csv")
SAMPLES = Path("reports/samples")
TRAIN_METRICS = Path("reports/train.json")
FINAL_SAMPLES = Path("reports/samples/final.md")
EVALUATION = Path("reports/evaluate.json")
PLOT = Path("reports/plot.png")
REPORT = Path("reports/report.md")
RECEIPT = Path("reports/publish.json")


def repository_root() -> Path:
    """The user's repository, absolute.

    Stages run in the current directory, which `dvc exp run --temp` and `--queue` make a throw-away copy; what must
    outlive a stage (resumable state, half-finished downloads, the MLflow database) goes under the root instead.
    DVC names it in DVC_ROOT; without DVC it is the current directory.
    """
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def state_directory() -> Path:
    """`.state/` at the repository's root: what survives a killed stage. Ignored by git, unknown to DVC."""
    return repository_root() / ".state"


def training_states() -> Path:
    """The states from which trainings go on, a directory for each key."""
    return state_directory() / "train"
