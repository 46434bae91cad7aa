"""Where the stories come from: the official files, the project's own generator, or the user's files."""

import glob
import hashlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tinystories.common.console import ProgressBar, info, progress, warn
from tinystories.common.errors import UserError
from tinystories.common.files import file_lock, link_file, sha256_of, write_json
from tinystories.common.params import EmbeddedSource, FilesSource, Params, TinyStoriesSource
from tinystories.common.paths import DOWNLOADS, RAW_MANIFEST, RAW_TRAIN, RAW_VALID, repository_root, state_directory
from tinystories.common.urls import is_address
from tinystories.corpus.stories import FileStats, StoryWriter, read_stories, story_writer, write_stories
from tinystories.sources import official as transfer

OFFICIAL = "https://huggingface.co/datasets/roneneldan/TinyStories"
REVISION = "f54c09fd23315a6f9c86f9dc80f725de7d8f9c64"
LICENSE = "CDLA-Sharing-1.0"


@dataclass(frozen=True)
class OfficialFile:
    """A file of the official data set, as it is at REVISION."""

    name: str
    size: FileStats

    @property
    def url(self) -> str:
        """Where it is downloaded from."""
        return f"{OFFICIAL}/resolve/{REVISION}/{self.name}"


EDITIONS = {  # (train, valid)
    "v1": (
        OfficialFile(
            "TinyStories-train.txt",
            FileStats(1_924_281_556, 2_119_719, "c5cf5e22ff13614e830afbe61a99fbcbe8bcb7dd72252b989fa1117a368d401f"),
        ),
        OfficialFile(
            "TinyStories-valid.txt",
            FileStats(19_447_282, 21_990, "94e431816c4cce81ff71e4408ff8d3bda9a42e8d2663986697c3954288cb38b4"),
        ),
    ),
    "v2": (
        OfficialFile(
            "TinyStoriesV2-GPT4-train.txt",
            FileStats(2_227_753_162, 2_717_699, "6418d412de72888f52b5142c761ac21a582f7d1166f0bfbdb5f03ccfdec90443"),
        ),
        OfficialFile(
            "TinyStoriesV2-GPT4-valid.txt",
            FileStats(22_502_601, 27_630, "6874bae9a4c1a4e7edcf0e53b86c17817e9cf881fc75ff2368da457b80c0585d"),
        ),
    ),
}


def prepare(params: Params) -> None:
    """Write the raw stories that `data.source` names, for training and for validation, and last the manifest.

    Errors: UserError where files, network or disk do not give the stories; then nothing half-written is left.
    """
    RAW_MANIFEST.unlink(missing_ok=True)  # it must never describe other files than those beside it
    match params.data.source:
        case "tinystories":
            detail, train, valid = _official(params.data.tinystories)
        case "embedded":
            detail, train, valid = _embedded(params.data.embedded)
        case "files":
            detail, train, valid = _files(params.data.files)
    manifest = {"source": params.data.source, "detail": detail, "train": asdict(train), "valid": asdict(valid)}
    write_json(RAW_MANIFEST, manifest)
    info(f"{train.stories:,} stories to train on ({train.bytes / 1e6:,.1f} MB), {valid.stories:,} to validate on")


def _official(source: TinyStoriesSource) -> tuple[dict[str, Any], FileStats, FileStats]:
    """Download the official files, unless they are here already, and keep their bytes as they are."""
    files = EDITIONS[source.edition]
    _check_disk_space(files)
    for file, target in zip(files, (RAW_TRAIN, RAW_VALID), strict=True):
        kept = _kept(file)
        kept.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(kept.with_suffix(".lock"), f"Another process downloads {file.name}; waiting for it"):
            if not (kept.exists() and sha256_of(kept) == file.size.sha256):
                _fetch(file, kept)
            link_file(kept, target)
    train, valid = files
    detail = {"edition": source.edition, "url": OFFICIAL, "revision": REVISION, "license": LICENSE}
    return detail, train.size, valid.size


def _kept(file: OfficialFile) -> Path:
    """Where the file stays for the next time: DVC clears the outputs away before each run of the stage."""
    return state_directory() / "downloads" / file.name


def _fetch(file: OfficialFile, target: Path) -> None:
    try:
        transfer.fetch(file.url, target, size=file.size.bytes, sha256=file.size.sha256)
    except UserError as error:
        raise UserError(
            f"{error}; without that network: `make quickstart` uses stories that the project writes itself, "
            "data.source=files your own copy"
        ) from None


def _check_disk_space(files: Iterable[OfficialFile]) -> None:
    needed = sum(file.size.bytes for file in files)
    for file in files:
        needed -= sum(path.stat().st_size for path in (transfer.part_file(file.url), _kept(file)) if path.exists())
    for directory in (state_directory(), RAW_TRAIN.parent):
        directory.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(directory).free
        if free < needed:
            raise UserError(
                f"{directory}: {free / 1e9:.1f} GB free on this disk; the download needs {needed / 1e9:.1f} GB, "
                "and what DVC keeps of it twice as much again"
            )


def _embedded(source: EmbeddedSource) -> tuple[dict[str, Any], FileStats, FileStats]:
    """Generate the stories. Those to validate on follow those to train on, so none is in both."""
    from tinystories.sources import storygen  # the other sources do without its word lists

    train, valid = source.stories, max(source.stories // 50, 20)
    with progress("Writing stories", total=train + valid) as bar:
        sizes = (
            write_stories(RAW_TRAIN, _counted(storygen.stories(source.seed, 0, train), bar)),
            write_stories(RAW_VALID, _counted(storygen.stories(source.seed, train, valid), bar)),
        )
    return {"generator": "tinystories.sources.storygen", "seed": source.seed}, *sizes


def _counted(stories: Iterable[str], bar: ProgressBar) -> Iterator[str]:
    for number, story in enumerate(stories, 1):
        if number % 100 == 0:  # a live bar costs more than a story
            bar.advance(100)
        yield story


@dataclass
class _Input:
    """One of the user's files. `name` is how messages and manifest call it; what is read of it is counted."""

    key: str
    name: str
    path: Path
    url: str | None = None
    bytes: int = 0
    stories: int = 0
    _sha256: Any = field(default_factory=hashlib.sha256)

    def read(self, bar: ProgressBar) -> Iterator[str]:
        def count(block: bytes) -> None:
            self._sha256.update(block)
            self.bytes += len(block)
            bar.advance(len(block))

        for story in read_stories(self.path, name=f"{self.key}: {self.name}", on_block=count):
            self.stories += 1
            yield story

    def entry(self) -> dict[str, Any]:
        """What the manifest says of it: DVC watches the key's text, not the file, so here its content is recorded."""
        return {"path": self.name, "bytes": self.bytes, "stories": self.stories, "sha256": self._sha256.hexdigest()}


def _files(source: FilesSource) -> tuple[dict[str, Any], FileStats, FileStats]:
    """Read the user's files and write them in the canonical form."""
    train = _locate("data.files.train", source.train)
    valid = _locate("data.files.valid", source.valid) if source.valid.strip() else []
    with (
        _downloaded(train + valid),
        story_writer(RAW_TRAIN) as train_writer,
        story_writer(RAW_VALID) as valid_writer,
        progress("Reading stories", total=sum(file.path.stat().st_size for file in train + valid)) as bar,
    ):
        detail: dict[str, Any]
        if valid:
            common = _write_both(train, valid, train_writer, valid_writer, bar)
            detail = {"valid": [file.entry() for file in valid], "valid_also_in_train": common}
        else:
            _write_split(train, source.held_out, train_writer, valid_writer, bar)
            detail = {"held_out": source.held_out}
        sizes = train_writer.size(), valid_writer.size()
    return {"train": [file.entry() for file in train], **detail}, *sizes


def _write_both(
    train: list[_Input], valid: list[_Input], train_writer: StoryWriter, valid_writer: StoryWriter, bar: ProgressBar
) -> int:
    """Write both sides as they are. Returns how many different stories of `valid` stand in `train` too."""
    only_valid = set()
    for story in _read(valid, bar):
        valid_writer.write(story)
        only_valid.add(_hash(story))
    different = len(only_valid)
    for story in _read(train, bar):
        train_writer.write(story)
        only_valid.discard(_hash(story))
    if common := different - len(only_valid):
        warn(f"{common:,} stories of data.files.valid stand in data.files.train too; the validation loss flatters")
    return common


def _write_split(
    files: list[_Input], held_out: float, train_writer: StoryWriter, valid_writer: StoryWriter, bar: ProgressBar
) -> None:
    """Hold a share out by each story's hash: any order and any copy of a story gives the same two sides."""
    for story in _read(files, bar):
        (valid_writer if _hash(story) < held_out * 2**64 else train_writer).write(story)
    stories = sum(file.stories for file in files)
    for writer, purpose in ((valid_writer, "to validate on"), (train_writer, "to train on")):
        if not writer.stories:
            raise UserError(
                f"data.files.held_out is {held_out:g}; of the {stories:,} stories in data.files.train that leaves "
                f"none {purpose}; give more stories, another share, or data.files.valid"
            )


def _read(files: list[_Input], bar: ProgressBar) -> Iterator[str]:
    """The stories of all the files, one after another. Errors: UserError where there is none at all."""
    for file in files:
        yield from file.read(bar)
    if not any(file.stories for file in files):
        named = files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
        found = "no story" if any(file.bytes for file in files) else "empty"
        raise UserError(f"{files[0].key}: {named}: {found}; expected stories, each ended by a line <|endoftext|>")


def _hash(story: str) -> int:
    return int.from_bytes(hashlib.sha256(story.encode()).digest()[:8])


def _locate(key: str, value: str) -> list[_Input]:
    """The files that a path, glob or URL names. Errors: UserError."""
    value = value.strip()
    if is_address(value):
        try:
            return [_Input(key, transfer.shown(value), Path(), url=value)]
        except UserError as error:
            raise UserError(f"{key}: {error}") from None
    root = repository_root()
    try:
        given = Path(value).expanduser()
        path = root / given
        if path.is_file():
            return [_Input(key, value, path)]
        if path.exists():
            what = f"a directory; name its files, as in {Path(value) / '*.txt'}" if path.is_dir() else "no regular file"
            raise UserError(f"{key} is {value!r}; that is {what}")
        pattern = str(given) if given.is_absolute() else str(Path(glob.escape(str(root))) / given)
        found = sorted(Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207 - takes absolute ones
        files = [file for file in found if file.is_file()]
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{key} is {value!r}: {getattr(error, 'strerror', None) or error}") from None
    if not files:
        what = "no file matches it" if glob.has_magic(value) else "no such file"
        raise UserError(f"{key} is {value!r}; {what}, seen from {root}")
    return [_Input(key, str(file.relative_to(root) if file.is_relative_to(root) else file), file) for file in files]


@contextmanager
def _downloaded(files: list[_Input]) -> Iterator[None]:
    """Have those that are URLs in a temporary place while the block runs."""
    urls = [file for file in files if file.url]
    if not urls:
        yield
        return
    shutil.rmtree(DOWNLOADS, ignore_errors=True)
    try:
        for number, file in enumerate(urls):
            file.path = DOWNLOADS / f"{number}.txt"
            try:
                transfer.fetch(file.url or "", file.path)
            except UserError as error:
                raise UserError(f"{file.key}: {error}") from None
        yield
    finally:
        shutil.rmtree(DOWNLOADS, ignore_errors=True)
