"""What a training reads: the token files, checked, and their tokenizer."""

from dataclasses import dataclass

from tokenizers import Tokenizer

from tinystories.common import paths
from tinystories.common.artifacts import TokenMeta
from tinystories.common.console import plural, warn
from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.tokenization.token_files import TokenArray, check_counts, matching_tokenizer, open_tokens

MANY_PASSES = 100  # of the training over its text: it knows it by heart long before
FEW_PASSES = 20
MIN_CONTEXT = 8  # a shorter one is not worth suggesting


@dataclass(frozen=True)
class TrainingData:
    """The tokenized stories. Shapes of `train` and `valid`: (tokens,)."""

    meta: TokenMeta
    tokenizer: Tokenizer
    train: TokenArray
    valid: TokenArray


def open_data(context_length: int) -> TrainingData:
    """Open both token files. Errors: UserError if files do not match each other, or are shorter than the context."""
    meta = TokenMeta.read()
    tokenizer = matching_tokenizer(meta, paths.TOKENIZER)
    splits = (("train", paths.TOKENS_TRAIN, meta.train), ("valid", paths.TOKENS_VALID, meta.valid))
    for name, path, split in splits:
        if split.tokens <= context_length:
            shortest = min(meta.train.tokens, meta.valid.tokens)
            possible = 2 ** ((shortest - 1).bit_length() - 1)  # the largest power of two below it
            shorter = f", or: dvc exp run -S model.context_length={possible}" if possible >= MIN_CONTEXT else ""
            raise UserError(
                f"{path}: the {name} text has {plural(split.tokens, 'token')}; model.context_length is "
                f"{context_length:,}, so it should have more than that; take more text{shorter}"
            )
    train, valid = (open_tokens(path, split, meta.vocab_size) for _, path, split in splits)
    check_counts(paths.TOKENS_VALID, valid, meta.valid, tokenizer)  # those of `train` enter no metric
    return TrainingData(meta, tokenizer, train, valid)


def warn_of_many_passes(params: Params, data: TrainingData) -> None:
    """Warn where a training sees each token of its text more than 100 times, with steps for 20 times."""
    train = params.train
    step_tokens = train.batch_size * params.model.context_length
    passes = train.steps * step_tokens / len(data.train)
    if passes > MANY_PASSES:
        fewer = max(round(FEW_PASSES * len(data.train) / step_tokens / train.epochs), 1)
        warn(
            f"the training sees its {plural(len(data.train), 'token')} {passes:,.0f} times, and will know them by "
            f"heart; fewer steps, for {FEW_PASSES} times: dvc exp run -S train.steps_per_epoch={fewer}"
        )
