"""Speed of encoding and of training a tokenizer, compared with what others use, and the memory for 1 GB of stories.

`python -m benchmarks.tokenizing [SAMPLE]`: SAMPLE (or $TINYSTORIES_SAMPLE) is a folder with train.txt, real stories.
Without it stories are generated.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from tinystories.common.special_tokens import END_OF_TEXT, END_OF_TEXT_ID
from tinystories.corpus.stories import blocks_of, read_stories, write_stories
from tinystories.encoding.writer import write_tokens
from tinystories.sources import storygen
from tinystories.tokenization.tokenizer import byte_values, load_tokenizer
from tinystories.tokenizer_training.bpe import save_tokenizer, train_on_blocks, train_tokenizer

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 5
BATCH = 1000  # stories that the others are given at once, about 0.9 MB; also the default of datasets' map
PROCESSES = 2
LARGE = 10**9  # bytes of text for the memory
GENERATED = 6500  # stories: as much text as the sample of real stories, 6 MB
VOCAB_SIZE = {True: 10_000, False: 4000}  # of real stories, and of generated ones, which have fewer words

Contender = Callable[[list[str], Tokenizer, Path], object]  # writes a token file


def ours(stories: list[str], tokenizer: Tokenizer, path: Path) -> None:
    write_tokens(stories, tokenizer, path, total_bytes=1)


def encode_batch(stories: list[str], tokenizer: Tokenizer, path: Path, method: str = "encode_batch") -> None:
    encode = getattr(tokenizer, method)
    with path.open("wb") as file:
        ids = [END_OF_TEXT_ID]
        for start in range(0, len(stories), BATCH):
            for encoding in encode(stories[start : start + BATCH], add_special_tokens=False):
                ids += encoding.ids
                ids.append(END_OF_TEXT_ID)
            file.write(np.asarray(ids, dtype="<u2").tobytes())
            ids = []


def encode_batch_fast(stories: list[str], tokenizer: Tokenizer, path: Path) -> None:
    encode_batch(stories, tokenizer, path, "encode_batch_fast")


def gigatoken_batch(stories: list[str], tokenizer: Tokenizer, path: Path) -> None:
    """Its own way, with all stories at once, nothing compared."""
    import gigatoken

    text = "".join(f"{story}{END_OF_TEXT}" for story in stories).encode()
    ids, _ = gigatoken.Tokenizer(tokenizer).encode_batch_padded(gigatoken.BytesSource(text), pad_id=END_OF_TEXT_ID)
    with path.open("wb") as file:
        file.write(np.asarray([END_OF_TEXT_ID], dtype="<u2").tobytes())
        file.write(ids.astype("<u2").tobytes())


def tiktoken_batch(stories: list[str], tokenizer: Tokenizer, path: Path) -> None:
    """With the same merges, each as a rank of its own."""
    import tiktoken

    letters = byte_values()
    ranks = {bytes(map(letters.__getitem__, entry)): n for entry, n in tokenizer.get_vocab().items() if n}
    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    encoding = tiktoken.Encoding("ours", pat_str=pattern, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: 0})
    with path.open("wb") as file:
        ids = [END_OF_TEXT_ID]
        for start in range(0, len(stories), BATCH):
            for story in encoding.encode_ordinary_batch(stories[start : start + BATCH], num_threads=PROCESSES):
                ids += story
                ids.append(END_OF_TEXT_ID)
            file.write(np.asarray(ids, dtype="<u2").tobytes())
            ids = []


def datasets_map(stories: list[str], tokenizer: Tokenizer, path: Path) -> None:
    """As most training scripts do: map over processes, then write the column to a file."""
    import datasets

    datasets.disable_progress_bars()
    datasets.disable_caching()

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        encodings = tokenizer.encode_batch(batch["text"], add_special_tokens=False)
        return {"ids": [[*encoding.ids, END_OF_TEXT_ID] for encoding in encodings]}

    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # in each process; else tokenizers warns of the fork
    try:
        mapped = datasets.Dataset.from_dict({"text": stories}).map(
            encode, batched=True, batch_size=BATCH, num_proc=PROCESSES, remove_columns=["text"]
        )
    finally:
        del os.environ["TOKENIZERS_PARALLELISM"]
    with path.open("wb") as file:
        file.write(np.asarray([END_OF_TEXT_ID], dtype="<u2").tobytes())
        for batch in mapped.with_format("arrow").iter(BATCH):
            file.write(batch["ids"].combine_chunks().flatten().to_numpy().astype("<u2").tobytes())


CONTENDERS: dict[str, Contender] = {
    "tinystories, tokenize_to_memmap": ours,
    "tokenizers, encode_batch": encode_batch,
    "tokenizers, encode_batch_fast": encode_batch_fast,
    "gigatoken alone": gigatoken_batch,
    "tiktoken, encode_ordinary_batch": tiktoken_batch,
    f"datasets, map, {PROCESSES} processes": datasets_map,
}
NEEDS: dict[Contender, str] = {gigatoken_batch: "gigatoken", tiktoken_batch: "tiktoken", datasets_map: "datasets"}
BASE = "tokenizers, encode_batch"


def measure(sample: Path | None = None) -> dict[str, Any]:
    """Measure MB of text a second of all contenders, medians of interleaved rounds; and our memory.

    Each writes the whole token file, from stories in memory, and starts with an empty cache of words in each round.
    """
    notes = [f"medians of {ROUNDS} rounds in which the contenders are interleaved; {os.cpu_count()} cores"]
    missing = {package for package in NEEDS.values() if not find_spec(package)}
    contenders = {name: write for name, write in CONTENDERS.items() if NEEDS.get(write, "") not in missing}
    notes += [f"{package} is not installed: pip install {package}" for package in sorted(missing)]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        text, is_real = _text(sample, directory)
        stories = list(read_stories(text))
        size = sum(len(story.encode()) for story in stories)
        tokenizer = train_tokenizer(stories, VOCAB_SIZE[is_real], size)
        save_tokenizer(tokenizer, directory / "tokenizer.json")
        files = {name: directory / f"{number}.bin" for number, name in enumerate(contenders)}
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(ROUNDS):
            for name, write in contenders.items():
                start = time.perf_counter()
                write(stories, tokenizer, files[name])
                rates[name].append(size / 1e6 / (time.perf_counter() - start))
        identical = len({file.read_bytes() for file in files.values()}) == 1
        memory = _memory(text, directory)
        training = _training(stories, tokenizer, size)
    rows = [
        {
            "name": name,
            "MB/s": median(rates[name]),
            "times encode_batch": median(ours / base for ours, base in zip(rates[name], rates[BASE], strict=True)),
        }
        for name in contenders
    ]
    kind = "real" if is_real else "generated"
    notes += [
        f"{size / 1e6:.1f} MB, {len(stories):,} {kind} stories, vocabulary {tokenizer.get_vocab_size():,}",
        f"token files {'identical' if identical else 'DIFFERENT'}",
        *(f"training a tokenizer: {name} {rate:.0f} MB/s" for name, rate in training.items()),
        f"{memory['text_bytes'] / 1e9:.1f} GB, read from the disk: at most {memory['peak_bytes'] / 1e6:.0f} MB of "
        f"memory for the whole process, {memory['MB/s']:.0f} MB/s",
    ]
    return {
        "title": "Encoding stories into a token file",
        "columns": list(rows[0]),
        "rows": rows,
        "notes": notes,
        "identical": identical,
        "memory": memory,
        "training": training,
        "text": {"kind": kind, "bytes": size, "stories": len(stories)},
    }


def _training(stories: list[str], tokenizer: Tokenizer, size: int) -> dict[str, float]:
    """Measure MB of text a second of training, medians of interleaved rounds. Errors: RuntimeError for other merges."""
    vocab_size = tokenizer.get_vocab_size()
    ways: dict[str, Callable[[], Tokenizer]] = {
        "ours": lambda: train_on_blocks(blocks_of(stories), vocab_size, size),
        "tokenizers": lambda: train_tokenizer(stories, vocab_size, size),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, train in ways.items():
            start = time.perf_counter()
            trained = train()
            rates[name].append(size / 1e6 / (time.perf_counter() - start))
            if trained.to_str() != tokenizer.to_str():
                raise RuntimeError(f"{name} learns other merges")
    return {name: median(values) for name, values in rates.items()}


def _text(sample: Path | None, directory: Path) -> tuple[Path, bool]:
    """A file of stories, and whether they are real."""
    sample = sample or Path(os.environ.get("TINYSTORIES_SAMPLE") or ROOT.parent / "shared/data/tinystories")
    if (sample / "train.txt").is_file():
        return sample / "train.txt", True
    path = directory / "stories.txt"
    write_stories(path, storygen.stories(seed=0, start=0, count=GENERATED))
    return path, False


def _memory(text: Path, directory: Path) -> dict[str, float]:
    """Run `_encode_large` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.tokenizing", "--large", str(text), str(directory)]
    paths = os.pathsep.join((str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _encode_large(text: Path, directory: Path) -> dict[str, float]:
    """Encode LARGE bytes of the text's stories, read over and over; in each time a word that no other has."""

    def stories() -> Iterator[str]:
        size = number = 0
        while True:
            for story in read_stories(text):
                number += 1
                size += len(story)
                yield f"{story} {number:x}."
                if size >= LARGE:
                    return

    tokenizer = load_tokenizer(directory / "tokenizer.json")
    start = time.perf_counter()
    split = write_tokens(stories(), tokenizer, directory / "large.bin", LARGE)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"text_bytes": split.bytes, "peak_bytes": peak, "MB/s": split.bytes / 1e6 / seconds}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--large"]:
        print(json.dumps(_encode_large(Path(sys.argv[2]), Path(sys.argv[3]))))
        sys.exit()
    result = measure(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    for row in result["rows"]:
        print(f"{row['name']:<34}{row['MB/s']:8.1f} MB/s {row['times encode_batch']:6.2f} × encode_batch")
    print(*result["notes"], sep="\n")
