"""What a training reads: the token files, checked, and their tokenizer."""

from dataclasses import dataclass

from tokenizers import Tokenizer

from tinystories.common import paths
from tinystories.common.artifacts import TokenMeta
from tinystories.common.errors import UserError
from tinystories.tokenization.token_files import TokenArray, check_counts, matching_tokenizer, open_tokens


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
            raise UserError(
                f"{path}: the {name} stories have {split.tokens:,} tokens; "
                f"model.context_length is {context_length:,}, so they should have more than that"
            )
    train, valid = (open_tokens(path, split, meta.vocab_size) for _, path, split in splits)
    check_counts(paths.TOKENS_VALID, valid, meta.valid, tokenizer)  # those of `train` enter no metric
    return TrainingData(meta, tokenizer, train, valid)
