"""A training of seconds in the current directory, without MLflow."""

from typing import Any

from tokenizers import Tokenizer

from tinystories.common import paths
from tinystories.common.artifacts import ParentRecord
from tinystories.encoding.writer import write_meta, write_tokens
from tinystories.tokenizer_training.bpe import save_tokenizer


class NoRun:
    """Takes the place of `AsyncRunLogger`: remembers how the runs ended."""

    ended: list[str]
    run_id = None

    def __init__(self, **known: Any) -> None:
        pass

    def log_metrics(self, step: int, metrics: object) -> None:
        pass

    def log_text(self, path: str, content: str) -> None:
        pass

    def close(self, status: str) -> None:
        type(self).ended.append(status)


def lay_out_tokens(stories: list[str], tokenizer: Tokenizer) -> None:
    """Write the files of the stages before `train`."""
    save_tokenizer(tokenizer, paths.TOKENIZER)
    train, valid = (write_tokens(stories, tokenizer, path, 1) for path in (paths.TOKENS_TRAIN, paths.TOKENS_VALID))
    write_meta(tokenizer, train, valid)
    ParentRecord(parent=None).write()
