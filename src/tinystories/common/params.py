"""The typed schema of `params.yaml`, and the only code that reads that file."""

import difflib
import re
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from pydantic_core import ErrorDetails

from tinystories.common.errors import UserError, shorten
from tinystories.common.mlflow_limits import MAX_EXPERIMENT_NAME
from tinystories.common.paths import PARAMS
from tinystories.common.strict_yaml import AmbiguousNumber, read_yaml
from tinystories.common.urls import may_hold_credentials, store_problem

MAX_VOCAB_SIZE = 65_536  # a token is stored in two bytes
MIN_VOCAB_SIZE = 257  # 256 bytes and <|endoftext|>
MAX_PARAMETERS = 10**10  # ten billion: a training holds four numbers for each, 160 GB
MAX_TOKENS_PER_BATCH = 2**24  # of a batch: with any vocabulary more numbers than a machine holds

Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Count = Annotated[int, Field(ge=1, le=2**40)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=10)]
MLP_MULTIPLE = (
    64  # in a group of the feed-forward layer: matrix units like such sizes, and the optimizer takes it in groups
)


def _one_line(text: str) -> str:
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]", text):
        raise ValueError("should be one line, without control characters")
    return text


def _not_empty(text: str) -> str:
    if not text.strip():
        raise ValueError("should not be empty")
    return text


SingleLine = Annotated[str, AfterValidator(_one_line)]
Line = Annotated[SingleLine, AfterValidator(_not_empty)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TinyStoriesSource(_Section):
    """The official files. `edition`: v2 (GPT-4 only) or v1."""

    edition: Literal["v2", "v1"]


class EmbeddedSource(_Section):
    """The project's own generator. `stories`: how many training stories."""

    stories: Annotated[int, Field(ge=100, le=100_000_000)]
    seed: Seed


def _without_secrets(way_out: str) -> AfterValidator:
    """Refuse an address that may hold a secret: this file is in git, and DVC copies its values into dvc.lock."""

    def check(text: str) -> str:
        if may_hold_credentials(text):
            raise ValueError(f"should have no user, password or query in it, for they would reach git; {way_out}")
        return text

    return AfterValidator(check)


def _a_store(text: str) -> str:
    if problem := store_problem(text):
        raise ValueError(problem)
    return text


def _short_enough(text: str) -> str:
    if len(text) > MAX_EXPERIMENT_NAME:
        raise ValueError(f"has {len(text):,} characters and should have at most {MAX_EXPERIMENT_NAME}")
    return text


Stories = Annotated[
    SingleLine, _without_secrets("a password may stand in ~/.netrc; or download the file, and give its path")
]
TrackingAddress = Annotated[
    SingleLine, _without_secrets("the variable MLFLOW_TRACKING_URI may have them"), AfterValidator(_a_store)
]
Experiment = Annotated[Line, AfterValidator(_short_enough)]


class FilesSource(_Section):
    """The user's own text. `train`, `valid`: path, glob or URL; `held_out`: share of stories where `valid` is empty."""

    train: Stories
    valid: Stories
    held_out: Annotated[float, Field(gt=0, le=0.5)]


class Data(_Section):
    """Where the stories come from."""

    source: Literal["tinystories", "embedded", "files"]
    tinystories: TinyStoriesSource
    embedded: EmbeddedSource
    files: FilesSource

    @model_validator(mode="after")
    def _files_are_named(self) -> Self:
        if self.source == "files" and not self.files.train.strip():
            raise ValueError("data.files.train is empty; data.source is files, so name the file, glob or URL")
        return self


class Tokenizer(_Section):
    """`vocab_size`: entries, the end-of-text token among them."""

    vocab_size: Annotated[int, Field(ge=MIN_VOCAB_SIZE, le=MAX_VOCAB_SIZE)]


class ModelConfig(_Section):
    """The model's shape: tokens of context, width, blocks, heads in a block."""

    context_length: Annotated[int, Field(ge=2, le=65_536)]
    embedding_size: Annotated[int, Field(ge=2, le=65_536)]
    layers: Annotated[int, Field(ge=1, le=1_000)]
    heads: Annotated[int, Field(ge=1, le=1_024)]

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.embedding_size % (2 * self.heads):
            raise ValueError(
                f"model.embedding_size is {self.embedding_size} and model.heads is {self.heads}; "
                f"the embedding should be a multiple of 2 × heads ({2 * self.heads}), "
                "for each head takes an equal, even share of it"
            )
        return self

    @property
    def head_size(self) -> int:
        """Width of one head."""
        return self.embedding_size // self.heads

    @property
    def mlp_size(self) -> int:
        """Width of the feed-forward layer: 8/3 of the embedding, up to the next multiple of MLP_MULTIPLE.

        SwiGLU has three matrices where the usual MLP has two of width 4, so 8/3 gives equal parameters
        (Shazeer 2020, arXiv 2002.05202).
        """
        return -(-8 * self.embedding_size // 3 // MLP_MULTIPLE) * MLP_MULTIPLE

    def parameter_count(self, vocab_size: int) -> int:
        """Trained numbers of a model of this shape, the tied embedding counted once."""
        width, norms = self.embedding_size, 2 * self.embedding_size + 2 * self.head_size
        block = 4 * width**2 + 3 * width * self.mlp_size + norms
        return vocab_size * width + self.layers * block + width


class Train(_Section):
    """The training: units stand in params.yaml."""

    batch_size: Annotated[int, Field(ge=1, le=1_000_000)]
    epochs: Annotated[int, Field(ge=1, le=100_000)]
    steps_per_epoch: Count
    learning_rate: Rate
    embedding_learning_rate: Rate
    warmup: Fraction
    cooldown: Fraction
    weight_decay: Annotated[float, Field(ge=0, le=10)]
    gradient_clip: Annotated[float, Field(ge=0, le=1e6)]
    device: Literal["auto", "cuda", "mps", "cpu"]
    precision: Literal["auto", "bf16", "fp32"]
    compile: Literal["auto", "on", "off"]
    deterministic: bool
    log_every: Count
    save_every: Annotated[float, Field(gt=0, le=1e6)]

    @model_validator(mode="before")
    @classmethod
    def _on_and_off(cls, values: Any) -> Any:
        # Programs that write YAML 1.1 turn a bare `on` into true, and so does who thinks of it as a switch.
        if isinstance(values, dict) and isinstance(values.get("compile"), bool):
            values = {**values, "compile": "on" if values["compile"] else "off"}
        return values

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if self.warmup + self.cooldown > 1:
            raise ValueError(
                f"train.warmup is {self.warmup:g} and train.cooldown is {self.cooldown:g}; "
                "the two shares of the steps should not exceed 1 together"
            )
        return self

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.epochs * self.steps_per_epoch


class Evaluate(_Section):
    """The final evaluation. `batch_size`: windows at once."""

    batch_size: Annotated[int, Field(ge=1, le=1_000_000)]
    precision: Literal["bf16", "fp32"]


class Sample(_Section):
    """How samples are drawn, and from which prompts."""

    top_k: Annotated[int, Field(ge=1, le=MAX_VOCAB_SIZE)]
    temperature: Annotated[float, Field(gt=0, le=100)]
    max_new_tokens: Annotated[int, Field(ge=1, le=100_000)]
    prompts: Annotated[tuple[Line, ...], Field(strict=False, max_length=100)]


class MLflow(_Section):
    """Where the record goes. An empty `tracking_uri` means mlflow.db at the repository's root."""

    experiment: Experiment
    tracking_uri: TrackingAddress


class Params(_Section):
    """All of params.yaml, checked."""

    seed: Seed
    data: Data
    tokenizer: Tokenizer
    model: ModelConfig
    train: Train
    evaluate: Evaluate
    sample: Sample
    mlflow: MLflow
    _written: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def written(self) -> dict[str, Any]:
        """The values as the file has them, 30 where the schema makes it 30.0; empty where they are from no file."""
        return self._written

    @model_validator(mode="after")
    def _a_machine_holds_it(self) -> Self:
        config = self.model
        parameters = config.parameter_count(self.tokenizer.vocab_size)
        if parameters > MAX_PARAMETERS:
            raise ValueError(
                f"model.embedding_size is {config.embedding_size} and model.layers is {config.layers}; "
                f"that gives {parameters:.2g} parameters, and there should be at most {MAX_PARAMETERS:.2g}"
            )
        for key, batch in (
            ("train.batch_size", self.train.batch_size),
            ("evaluate.batch_size", self.evaluate.batch_size),
        ):
            if batch * config.context_length > MAX_TOKENS_PER_BATCH:
                raise ValueError(
                    f"{key} is {batch} and model.context_length is {config.context_length}; "
                    f"a batch should have at most {MAX_TOKENS_PER_BATCH:,} tokens"
                )
        return self


def load_params(path: Path = PARAMS) -> Params:
    """Read and check the parameters.

    Errors: UserError, one line with the key, the value found and what would be right.
    """
    values = read_yaml(path)
    try:
        params = Params.model_validate(values)
    except ValidationError as error:
        # A misspelt key is both unknown and missing; "did you mean" helps more.
        problems = sorted(error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(f"{path}: {_explain(problems[0])}{more}") from None
    params._written = values
    return params


def _explain(problem: ErrorDetails) -> str:
    """One line for one of pydantic's findings."""
    key = shorten(".".join(str(part) for part in problem["loc"]))
    value, kind, context = problem["input"], problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        known = _keys_of(problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        return f"{key} is not a known key; " + (f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}")
    if kind == "missing":
        return f"{key} is missing; git's version of params.yaml shows every key with its meaning"
    if kind == "value_error":
        reason = str(context["error"])
        # What a check of a whole section finds already names its keys.
        return reason if isinstance(value, dict | BaseModel) else f"{key} is {_shown(value)}; it {reason}"
    if isinstance(value, AmbiguousNumber):
        written = f"'{value.text}', in quotes" if kind == "string_type" else " or ".join(value.numbers)
        readings = " or ".join(value.readings)
        return f"{key} is {shorten(value.text)}, which YAML takes for {shorten(readings)}; write {shorten(written)}"
    wanted = {
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "float_type": "a number",
        "bool_type": "true or false",
        "finite_number": "a finite number",
        "string_type": "text",
        "tuple_type": "a list",
        "model_type": "a section with keys of its own",
        "literal_error": f"one of {context.get('expected')}",
        "greater_than_equal": f"at least {context.get('ge')}",
        "greater_than": f"greater than {context.get('gt')}",
        "less_than_equal": f"at most {context.get('le')}",
        "too_long": f"at most {context.get('max_length')} entries long",
    }.get(kind)
    line = (
        f"{key} is {_shown(value)}; it should be {wanted}" if wanted else f"{key} is {_shown(value)}: {problem['msg']}"
    )
    if isinstance(value, str) and value[-1:].isdigit() and kind in ("int_type", "float_type"):
        line += ", without quotes"
    return line


def _keys_of(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the section at `location` may have."""
    section: Any = Params
    for part in location:
        section = section.model_fields[part].annotation
    return list(section.model_fields)


class _Shown(reprlib.Repr):
    """Like repr, which however would write out all that a few nested aliases stand for, and any password."""

    def repr_str(self, x: str, level: int) -> str:
        if may_hold_credentials(x):
            return "an address (not shown)"
        return repr(x) if level == self.maxlevel else super().repr_str(x, level)


def _shown(value: Any) -> str:
    """The value as YAML would have it, cut to a readable length."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | list | dict | set):
        return shorten(_Shown().repr(value))
    return shorten(str(value))
