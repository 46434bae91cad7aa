"""The typed schema of `params.yaml`, and the only code that reads that file."""

import difflib
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from tinystories.errors import UserError
from tinystories.paths import PARAMS

LARGEST_VOCABULARY = 65_536  # a token is stored in two bytes
SMALLEST_VOCABULARY = 257  # 256 bytes and <|endoftext|>
LARGEST_FILE = 1_000_000  # bytes; a params.yaml is a page long

Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Count = Annotated[int, Field(ge=1, le=2**40)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=10)]


def _one_line(text: str) -> str:
    if not text.strip():
        raise ValueError("should not be empty")
    if text.splitlines() != [text]:
        raise ValueError("should be one line")
    return text


Line = Annotated[str, AfterValidator(_one_line)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TinyStoriesSource(_Section):
    """The official files. `edition`: v2 (GPT-4 only) or v1."""

    edition: Literal["v2", "v1"]


class EmbeddedSource(_Section):
    """The project's own generator. `stories`: how many training stories."""

    stories: Annotated[int, Field(ge=100, le=100_000_000)]
    seed: Seed


class FilesSource(_Section):
    """The user's own text. `train`, `valid`: path, glob or URL; `held_out`: share of stories where `valid` is empty."""

    train: str
    valid: str
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

    vocab_size: Annotated[int, Field(ge=SMALLEST_VOCABULARY, le=LARGEST_VOCABULARY)]


class Model(_Section):
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
    def feed_forward_size(self) -> int:
        """Width of the feed-forward layer: 8/3 of the embedding, up to the next multiple of 64.

        SwiGLU has three matrices where the usual MLP has two of width 4, so 8/3 gives equal parameters
        (Shazeer 2020, arXiv 2002.05202); matrix units like multiples of 64.
        """
        return -(-8 * self.embedding_size // 3 // 64) * 64


class Train(_Section):
    """The training: units stand in params.yaml."""

    batch_size: Annotated[int, Field(ge=1, le=1_000_000)]
    epochs: Annotated[int, Field(ge=1, le=100_000)]
    steps_per_epoch: Count
    learning_rate: Rate
    embedding_learning_rate: Rate
    warmup: Share
    cooldown: Share
    weight_decay: Annotated[float, Field(ge=0, le=10)]
    gradient_clip: Annotated[float, Field(ge=0, le=1e6)]
    device: Literal["auto", "cuda", "mps", "cpu"]
    precision: Literal["auto", "bf16", "fp32"]
    compile: Literal["auto", "on", "off"]
    log_every: Count
    save_every: Annotated[float, Field(gt=0, le=1e6)]

    @model_validator(mode="before")
    @classmethod
    def _on_and_off(cls, values: Any) -> Any:
        # YAML 1.1 reads a bare `on` as true, and DVC writes true where `-S train.compile=on` was asked for.
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

    top_k: Annotated[int, Field(ge=1, le=LARGEST_VOCABULARY)]
    temperature: Annotated[float, Field(gt=0, le=100)]
    max_new_tokens: Annotated[int, Field(ge=1, le=100_000)]
    prompts: Annotated[tuple[Line, ...], Field(strict=False, max_length=100)]


class MLflow(_Section):
    """Where the record goes. An empty `tracking_uri` means mlflow.db at the repository's root."""

    experiment: Line
    tracking_uri: str


class Params(_Section):
    """All of params.yaml, checked."""

    seed: Seed
    data: Data
    tokenizer: Tokenizer
    model: Model
    train: Train
    evaluate: Evaluate
    sample: Sample
    mlflow: MLflow


class _Loader(yaml.SafeLoader):
    """Plain YAML without tags; a key that stands twice is an error, not a silent choice of the last."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, str):
                value.encode()  # "\\ud800" is half a character, which nothing could print or save
        except ValueError as error:  # also of a date or a number that cannot be: say where
            raise yaml.constructor.ConstructorError(None, None, " ".join(str(error).split()), node.start_mark) from None
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} should be text", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice in one section", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_params(path: Path = PARAMS) -> Params:
    """Read and check the parameters.

    Errors: UserError, one line with the key, the value found and what would be right.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UserError(f"{path}: {path.stat().st_size:,} bytes; a parameter file has less than {LARGEST_FILE:,}")
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file here ({Path.cwd()}); run the stage from the repository's root") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror})") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{path}: {_yaml_problem(error)}") from None
    if not isinstance(values, dict):
        found = "nothing" if values is None else f"a {type(values).__name__}"
        raise UserError(f"{path}: found {found}; expected the sections {', '.join(Params.model_fields)}")
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        # A misspelt key is both unknown and missing; "did you mean" helps more.
        problems = sorted(error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(f"{path}: {_explain(problems[0])}{more}") from None


def _yaml_problem(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        return f"{place}{error.problem or error.context or 'not YAML'}"
    return " ".join(str(error).split()) or type(error).__name__


def _explain(problem: ErrorDetails) -> str:
    """One line for one of pydantic's findings."""
    key = _cut(".".join(str(part) for part in problem["loc"]))
    key = key if key.isprintable() else ascii(key)
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
    wanted = {
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "float_type": "a number",
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
    if isinstance(value, str) and kind in ("int_type", "float_type"):
        line += ", without quotes" + (" (YAML wants 1.0e-3, not 1e-3)" if "e" in value.lower() else "")
    return line


def _keys_of(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the section at `location` may have."""
    section: Any = Params
    for part in location:
        section = section.model_fields[part].annotation
    return list(section.model_fields)


def _shown(value: Any) -> str:
    """The value as YAML would have it, cut to a readable length."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict | set):
        return _cut(reprlib.repr(value))  # repr would write out all that a few nested aliases stand for
    return _cut(repr(value) if isinstance(value, str) else str(value))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
