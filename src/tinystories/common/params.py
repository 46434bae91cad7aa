"""The typed schema of `params.yaml`, and the sizes derived from it."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    model_validator,
)

from tinystories.common.param_types import (
    AutoOrCount,
    BatchSize,
    Count,
    Experiment,
    Fraction,
    Parent,
    Prompt,
    Rate,
    Seed,
    SingleLine,
    Stories,
    TrackingUri,
    not_empty,
)

MAX_VOCAB_SIZE = 65_536  # a token is stored in two bytes
MIN_VOCAB_SIZE = 257  # 256 bytes and <|endoftext|>
MAX_PARAMETERS = 10**10  # a training holds four numbers for each: 160 GB
MAX_TOKENS_PER_BATCH = 2**24  # with any vocabulary, more logits than a machine holds
MLP_MULTIPLE = 64  # of the MLP's hidden size: matrix units like such sizes, and the optimizer takes rows in such groups


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TinyStoriesSource(_Section):
    """The official files. `edition`: v2 (GPT-4 only) or v1."""

    edition: Literal["v2", "v1"]


class EmbeddedSource(_Section):
    """The project's own generator. `stories`: number of training stories."""

    stories: Annotated[int, Field(ge=100, le=100_000_000)]
    seed: Seed


class FilesSource(_Section):
    """The user's text. `train`, `valid`: a file or a directory of files, which DVC watches."""

    train: Annotated[Stories, AfterValidator(not_empty)]
    valid: Annotated[Stories, AfterValidator(not_empty)]
    column: Annotated[SingleLine, AfterValidator(not_empty)]
    documents: Literal["auto", "blank_lines", "lines"]
    held_out: Annotated[float, Field(gt=0, le=0.5)]


class Data(_Section):
    """Where the stories come from. `engine`: what encodes them, with the same result."""

    source: Literal["tinystories", "embedded", "files"]
    engine: Literal["local", "ray"]
    tinystories: TinyStoriesSource
    embedded: EmbeddedSource
    files: FilesSource


class Tokenizer(_Section):
    """`vocab_size`: entries, the end-of-text token among them."""

    vocab_size: Annotated[int, Field(ge=MIN_VOCAB_SIZE, le=MAX_VOCAB_SIZE)]


class Checks(_Section):
    """Limits of the figures in reports/data.json."""

    max_overlap: Fraction
    max_duplicates: Fraction
    max_cut_stories: Fraction
    max_mojibake: Annotated[float, Field(ge=0, le=1e6)]
    min_bytes_per_token: Annotated[float, Field(ge=1, le=100)]


class ModelConfig(_Section):
    """The model's sizes: tokens of context, embedding size, blocks, attention heads of a block."""

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
                "because each head takes an equal, even part of it"
            )
        return self

    @property
    def head_size(self) -> int:
        """Size of one attention head."""
        return self.embedding_size // self.heads

    @property
    def mlp_size(self) -> int:
        """Hidden size of the MLP: 8/3 of the embedding, up to the next multiple of MLP_MULTIPLE.

        SwiGLU has three matrices where GPT-2's MLP has two of hidden size 4, so 8/3 gives equal parameters
        (Shazeer 2020, arXiv 2002.05202).
        """
        return -(-8 * self.embedding_size // 3 // MLP_MULTIPLE) * MLP_MULTIPLE

    def parameter_count(self, vocab_size: int) -> int:
        """Number of trainable parameters, the tied embedding counted once."""
        width, norms = self.embedding_size, 2 * self.embedding_size + 2 * self.head_size
        block = 4 * width**2 + 3 * width * self.mlp_size + norms
        return vocab_size * width + self.layers * block + width


class Train(_Section):
    """The training. params.yaml says what each value means, with its unit."""

    batch_size: BatchSize
    epochs: Annotated[int, Field(ge=1, le=100_000)]
    steps_per_epoch: Count
    learning_rate: Rate
    embedding_learning_rate: Rate
    warmup_steps: Annotated[int, Field(ge=0, le=2**40)]
    cooldown: Fraction
    weight_decay: Annotated[float, Field(ge=0, le=10)]
    gradient_clip: Annotated[float, Field(ge=0, le=1e6)]
    device: Literal["auto", "cuda", "mps", "cpu"]
    precision: Literal["auto", "bf16", "fp32"]
    compile: Literal["auto", "on", "off"]
    deterministic: bool
    devices: AutoOrCount
    micro_batch_size: AutoOrCount
    log_every: Count
    save_every: Annotated[float, Field(gt=0, le=1e6)]
    kept_trunks: Annotated[int, Field(ge=0, le=10_000)]
    kept_trunk_gigabytes: Annotated[float, Field(ge=0, le=1e6)]
    init_from: Parent

    @model_validator(mode="before")
    @classmethod
    def _on_and_off(cls, values: Any) -> Any:
        # Programs that write YAML 1.1 turn a bare `on` into true.
        if isinstance(values, dict) and isinstance(values.get("compile"), bool):
            values = {**values, "compile": "on" if values["compile"] else "off"}
        return values

    @model_validator(mode="before")
    @classmethod
    def _no_share(cls, values: Any) -> Any:
        if isinstance(values, dict) and "warmup" in values:
            raise ValueError(
                "train.warmup is a share of all steps, as it was; it should be train.warmup_steps, their number, "
                "which does not depend on train.epochs (0.01 of 40,000 steps: 400)"
            )
        return values

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        ranks = 1 if self.devices == "auto" else self.devices
        if self.batch_size % ranks:
            raise ValueError(
                f"train.batch_size is {self.batch_size} and train.devices is {ranks}; "
                "the batch should be a multiple of the devices, because each takes an equal part of it"
            )
        micro = 1 if self.micro_batch_size == "auto" else self.micro_batch_size
        if self.batch_size // ranks % micro:
            raise ValueError(
                f"train.micro_batch_size is {micro} and train.batch_size is {self.batch_size}; "
                f"the micro-batch should divide a device's part of the batch ({self.batch_size // ranks})"
            )
        return self

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.epochs * self.steps_per_epoch


class Evaluate(_Section):
    """The final evaluation. `batch_size`: windows in a batch. `stories`: how many of each kind are judged."""

    batch_size: BatchSize
    precision: Literal["bf16", "fp32"]
    stories: Annotated[int, Field(ge=0, le=1_000)]
    max_bits_per_byte: Annotated[float, Field(gt=0, le=100)] | None


class Sample(_Section):
    """Sampling: how tokens are drawn, and the prompts."""

    top_k: Annotated[int, Field(ge=1, le=MAX_VOCAB_SIZE)]
    temperature: Annotated[float, Field(gt=0, le=100)]
    max_new_tokens: Annotated[int, Field(ge=1, le=100_000)]
    prompts: Annotated[tuple[Prompt, ...], Field(strict=False, max_length=100)]


class MLflow(_Section):
    """Where runs are tracked. An empty `tracking_uri` means mlflow.db at the repository's root."""

    experiment: Experiment
    tracking_uri: TrackingUri


class Publish(_Section):
    """Which model is published: that of the last epoch, or of the best."""

    model: Literal["last", "best"]


class Params(_Section):
    """All of params.yaml, checked."""

    seed: Seed
    data: Data
    tokenizer: Tokenizer
    checks: Checks
    model: ModelConfig
    train: Train
    evaluate: Evaluate
    sample: Sample
    mlflow: MLflow
    publish: Publish
    _written: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def from_written(cls, values: dict[str, Any]) -> Self:
        """Check the values of a file, and keep them as written. Errors: ValidationError."""
        params = cls.model_validate(values)
        params._written = values
        return params

    @property
    def written(self) -> dict[str, Any]:
        """The values as the file has them, 30 where the schema makes it 30.0. Empty without a file."""
        return self._written

    @model_validator(mode="after")
    def _fits_a_machine(self) -> Self:
        config = self.model
        parameters = config.parameter_count(self.tokenizer.vocab_size)
        if parameters > MAX_PARAMETERS:
            raise ValueError(
                f"model.embedding_size is {config.embedding_size} and model.layers is {config.layers}; "
                f"that gives {parameters:.2g} parameters, and there should be at most {MAX_PARAMETERS:.2g}"
            )
        for section, batch in (("train", self.train.batch_size), ("evaluate", self.evaluate.batch_size)):
            if batch * config.context_length > MAX_TOKENS_PER_BATCH:
                raise ValueError(
                    f"{section}.batch_size is {batch} and model.context_length is {config.context_length}; "
                    f"a batch should have at most {MAX_TOKENS_PER_BATCH:,} tokens"
                )
        return self
