"""The files between the stages: a type for each, which writes the file and reads it back.

A file has one writer, the stage named in its type. Reading gives an object of that type, or a `UserError` that names
the file, the key, what was found and what would be right. Keys and columns that the type does not have are ignored.
"""

import csv
import io
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    TypeAdapter,
    ValidationError,
)

from tinystories.common import paths
from tinystories.common.artifact_errors import describe, remedy
from tinystories.common.errors import UserError
from tinystories.common.files import write_json, write_text
from tinystories.common.reading import read_csv, read_json

MAX_COUNT = 2**53  # every reader of JSON has such an integer exactly
MAX_VALUE = 1e15  # of any count, rate, loss or time: beyond it a figure is damaged
MAX_PERPLEXITY = 1e305  # e^700, at which `loss_eval.perplexity` ends, and a little


def _time(text: str) -> str:
    try:
        datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("an ISO 8601 time") from None
    return text


Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
PositiveCount = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Figure = Annotated[float, Field(ge=0, le=MAX_VALUE)]
FigureOrEmpty = Annotated[Figure | None, BeforeValidator(lambda value: None if value == "" else value)]
Perplexity = Annotated[float, Field(ge=0, le=MAX_PERPLEXITY)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Time = Annotated[str, AfterValidator(_time)]


class Values(BaseModel):
    """Named values, checked when they are read and when they are made."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class JsonFile(Values):
    """The contents of a JSON file at a fixed place."""

    PATH: ClassVar[Path]
    STAGE: ClassVar[str]

    @classmethod
    def read(cls, path: Path | None = None) -> Self:
        """Read the file at its place, or at `path`. Errors: UserError where it is missing or not of this form."""
        path = path or cls.PATH
        try:
            return cls.model_validate(read_json(path))
        except ValidationError as error:
            raise UserError(f"{path}: {describe(error)}; {remedy(cls.STAGE)}") from None

    def write(self) -> None:
        """Write the file, whole or not at all."""
        write_json(self.PATH, self.model_dump())


class Row(Values):
    """One row of a CSV file at a fixed place."""

    PATH: ClassVar[Path]
    STAGE: ClassVar[str] = "train"

    @classmethod
    def read_table(cls) -> list[Self]:
        """Read all rows, at least one. Errors: UserError where the file is missing or not of this form."""
        rows = read_csv(cls.PATH, cls.STAGE)
        if not rows:
            raise UserError(f"{cls.PATH}: no row below the header; {remedy(cls.STAGE)}")
        table = TypeAdapter[list[Self]](Annotated[list[cls], FailFast()])  # type: ignore[arg-type, valid-type]
        try:
            return table.validate_python(rows, strict=False)  # text becomes numbers
        except ValidationError as error:
            row, *_ = error.errors(include_url=False)[0]["loc"]
            raise UserError(f"{cls.PATH}, row {int(row) + 1}: {describe(error)}; {remedy(cls.STAGE)}") from None

    @classmethod
    def write_table(cls, rows: Iterable[Self]) -> None:
        """Write all rows, whole or not at all."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(cls.model_fields), lineterminator="\n")
        writer.writeheader()
        writer.writerows(row.model_dump() for row in rows)
        write_text(cls.PATH, text.getvalue())


class StoryFile(Values):
    """A file of stories: counts of bytes (separators included) and of stories, and its sha256 in hexadecimal."""

    bytes: Count
    stories: Count
    sha256: Sha256


class Manifest(JsonFile):
    """manifest.json: the two files of stories, and where they are from."""

    PATH, STAGE = paths.RAW_MANIFEST, "download"

    source: str
    detail: dict[str, Any]
    train: StoryFile
    valid: StoryFile

    @property
    def noun(self) -> str:
        """What a text of the corpus is called: what a user brings need not be a story."""
        return "document" if self.source == "files" else "story"


class TokenFile(Values):
    """A token file: counts of tokens, of stories and of UTF-8 bytes of story text, and its sha256 in hexadecimal."""

    tokens: PositiveCount
    stories: PositiveCount
    bytes: PositiveCount
    sha256: Sha256


class TokenMeta(JsonFile):
    """meta.json: the two token files, and the tokenizer that made them."""

    PATH, STAGE = paths.TOKENS_META, "tokenize_to_memmap"

    vocab_size: PositiveCount
    tokenizer_sha256: Sha256
    train: TokenFile
    valid: TokenFile


class HistoryRow(Row):
    """One row of history.csv: the mean loss (nats per token) since the row before, and the last step's other values."""

    PATH = paths.HISTORY

    step: Count
    tokens: Count
    loss: Figure
    valid_slice_loss: FigureOrEmpty = None  # after that step, on the validation slice; empty in most rows
    learning_rate: Figure
    gradient_norm: Figure
    tokens_per_second: Figure
    seconds: Figure  # of training steps alone


class EpochRow(Row):
    """One row of epochs.csv, the loss/PPL table."""

    PATH = paths.EPOCHS

    epoch: Count
    train_loss: Figure
    train_ppl: Perplexity
    valid_loss: Figure
    valid_ppl: Perplexity
    valid_bits_per_byte: Figure
    step: Count
    tokens: Count
    seconds: Figure  # of the whole stage


class TrainMetrics(JsonFile):
    """The metrics of the stage train, as `dvc metrics show` has them. Those of the validation are evaluate.json's."""

    PATH, STAGE = paths.TRAIN_METRICS, "train"

    train_loss: Figure
    train_ppl: Perplexity
    steps: Count
    tokens: Count
    parameters: Count
    tokens_per_second: Figure  # the steady rate: the median over the rows of history.csv
    startup_seconds: Figure  # of the first step, which compiles; of a resumed training, of each process's first step
    seconds: Figure  # of the whole stage


class Environment(Values):
    """What a training ran on. More keys may follow, such as a CPU's vector units."""

    model_config = ConfigDict(extra="allow")

    device: str
    device_name: str
    precision: str
    compiled: bool
    torch: str
    python: str
    platform: str
    threads: Count
    git_commit: str | None


class Parent(Values):
    """The model that a training goes on from: what `train.init_from` was, and sha256 of its weights in fp32."""

    init_from: str
    sha256: Sha256


class ParentRecord(JsonFile):
    """record.json: the model whose copy lies beside it. None where the training begins with random weights."""

    PATH, STAGE = paths.PARENT_RECORD, "train_tokenizer"

    parent: Parent | None


class Run(JsonFile):
    """The training as it ran: its key, its MLflow run, what it ran on, and the model that it went on from."""

    PATH, STAGE = paths.RUN, "train"

    run_id: str | None
    key: str
    name: str | None
    started: Time
    ended: Time
    environment: Environment
    parent: Parent | None = None


class EpochIndex(JsonFile):
    """index.json: the epochs, from 1, whose weights are kept. Those of the last are the checkpoint itself.

    `best` is that of the lowest validation loss, of equal ones the last.
    """

    PATH, STAGE = paths.EPOCH_INDEX, "train"

    epochs: list[PositiveCount] = Field(min_length=1)
    best: PositiveCount


class Evaluation(JsonFile):
    """The metrics of the stage evaluate: of the last epoch, and of the best, which may be the same."""

    PATH, STAGE = paths.EVALUATION, "evaluate"

    valid_loss: Figure
    valid_ppl: Perplexity
    valid_bits_per_byte: Figure
    valid_tokens: Count
    best_epoch: PositiveCount
    best_valid_loss: Figure
    best_valid_ppl: Perplexity
    best_valid_bits_per_byte: Figure

    def of(self, model: Literal["last", "best"]) -> Self:
        """The same figures, with those of the model that `publish.model` means in the first place."""
        best = {name: getattr(self, f"best_{name}") for name in ("valid_loss", "valid_ppl", "valid_bits_per_byte")}
        return self.model_copy(update=best if model == "best" else {})
