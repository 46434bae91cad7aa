"""Coverage-guided fuzzing of what reads files: `python -m tests.support.fuzz_atheris READER [-runs=100000 ...]`.

It needs `pip install atheris`, which is no part of the environment because there are not wheels for every Python and
system. The options are libFuzzer's. tests/common/test_fuzz.py does the same by rules, in the suite.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tinystories", "yaml", "json", "csv"]):
    from tinystories.common import paths
    from tinystories.common.artifacts import HistoryRow, TokenMeta
    from tinystories.common.errors import UserError
    from tinystories.common.params_file import load_params
    from tinystories.common.reading import read_json
    from tinystories.corpus.stories import read_stories
    from tinystories.model.checkpoint import load_checkpoint
    from tinystories.tokenization.tokenizer import load_tokenizer
    from tinystories.training.resume import ResumeCheckpoint


def checkpoint(path: Path) -> None:
    path.rename(path.with_name("config.json"))
    load_checkpoint(path.parent)


def state(path: Path) -> None:
    saved = path.parent / "key" / "step-000000000001"
    saved.mkdir(parents=True, exist_ok=True)
    (saved / "tensors.safetensors").write_bytes(path.read_bytes())
    path.rename(saved / "trainer_state.json")
    assert ResumeCheckpoint(saved.parent).load({}) is None


def table(path: Path) -> None:
    os.chdir(path.parent)
    paths.HISTORY.parent.mkdir(exist_ok=True)
    path.rename(paths.HISTORY)
    HistoryRow.read_table()


READERS: dict[str, Callable[[Path], object]] = {
    "params": load_params,
    "json": read_json,
    "table": table,
    "meta": TokenMeta.read,
    "tokenizer": load_tokenizer,
    "stories": lambda path: sum(map(len, read_stories(path, block_size=16))),
    "checkpoint": checkpoint,
    "state": state,
}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in READERS:
        sys.exit(f"usage: python -m tests.support.fuzz_atheris {'|'.join(READERS)} [libFuzzer's options]")
    read = READERS[sys.argv.pop(1)]
    path = Path(tempfile.mkdtemp(prefix="fuzz-")) / "file"

    def try_one(data: bytes) -> None:
        path.write_bytes(data)
        try:
            read(path)
        except UserError as error:
            message = str(error)
            assert message.isprintable() and len(message) < 600, message

    atheris.Setup(sys.argv, try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
