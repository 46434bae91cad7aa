"""The official TinyStories files (Eldan & Li 2023, arXiv 2305.07759): pinned, downloaded once, kept as they are."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import hf_hub_url

from tinystories.common.artifacts import Manifest, StoryFile
from tinystories.common.console import warn
from tinystories.common.errors import UserError
from tinystories.common.files import copy_file, file_lock, link_file, sha256_of
from tinystories.common.params import TinyStoriesSource
from tinystories.common.paths import RAW_TRAIN, RAW_VALID, state_directory
from tinystories.sources.hub import fetch, find_cached, part_file

REPO = "roneneldan/TinyStories"
DATASET_URL = f"https://huggingface.co/datasets/{REPO}"
REVISION = "f54c09fd23315a6f9c86f9dc80f725de7d8f9c64"
LICENSE = "CDLA-Sharing-1.0"


@dataclass(frozen=True)
class OfficialFile:
    """A file of the official data set at REVISION."""

    name: str
    content: StoryFile

    @property
    def url(self) -> str:
        """Where the file is downloaded from: the Hub, or the mirror that HF_ENDPOINT names."""
        return str(hf_hub_url(REPO, self.name, repo_type="dataset", revision=REVISION))

    @property
    def kept_path(self) -> Path:
        """Where a download is kept between runs: DVC removes the outputs before each run of the stage."""
        return state_directory() / "downloads" / self.name


def _file(name: str, size: int, stories: int, sha256: str) -> OfficialFile:
    return OfficialFile(name, StoryFile(bytes=size, stories=stories, sha256=sha256))


EDITIONS = {  # (train, valid)
    "v1": (
        _file(
            "TinyStories-train.txt",
            1_924_281_556,
            2_119_719,
            "c5cf5e22ff13614e830afbe61a99fbcbe8bcb7dd72252b989fa1117a368d401f",
        ),
        _file(
            "TinyStories-valid.txt",
            19_447_282,
            21_990,
            "94e431816c4cce81ff71e4408ff8d3bda9a42e8d2663986697c3954288cb38b4",
        ),
    ),
    "v2": (
        _file(
            "TinyStoriesV2-GPT4-train.txt",
            2_227_753_162,
            2_717_699,
            "6418d412de72888f52b5142c761ac21a582f7d1166f0bfbdb5f03ccfdec90443",
        ),
        _file(
            "TinyStoriesV2-GPT4-valid.txt",
            22_502_601,
            27_630,
            "6874bae9a4c1a4e7edcf0e53b86c17817e9cf881fc75ff2368da457b80c0585d",
        ),
    ),
}


def prepare_official(source: TinyStoriesSource) -> Manifest:
    """Put the official files to their places: from this project's own copy, else the user's cache, else the Hub."""
    files = EDITIONS[source.edition]
    _check_disk_space(files)
    for file, target in zip(files, (RAW_TRAIN, RAW_VALID), strict=True):
        kept = file.kept_path
        kept.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(kept.with_suffix(".lock"), f"Another process downloads {file.name}; waiting for it"):
            if not _is_right(kept, file):
                if found := _find_cached(file):
                    # No link: DVC write-protects its outputs, and who edits data/raw/ would edit the user's cache.
                    copy_file(found, target)
                    continue
                _download(file)
            link_file(kept, target)
    train, valid = files
    detail = {"edition": source.edition, "url": DATASET_URL, "revision": REVISION, "license": LICENSE}
    return Manifest(source="tinystories", detail=detail, train=train.content, valid=valid.content)


def _is_right(path: Path, file: OfficialFile) -> bool:
    return path.exists() and path.stat().st_size == file.content.bytes and sha256_of(path) == file.content.sha256


def _find_cached(file: OfficialFile) -> Path | None:
    """Find the file in the user's Hugging Face cache. Warns where its bytes are wrong; then it is left as it is."""
    found = find_cached(REPO, REVISION, file.name)
    if found is None or _is_right(found, file):
        return found
    warn(f"{found}, of the Hugging Face cache, has not the bytes of {file.name}; it is not used. Delete it")
    return None


def _download(file: OfficialFile) -> None:
    try:
        fetch(file.url, file.kept_path, size=file.content.bytes, sha256=file.content.sha256)
    except UserError as error:
        raise UserError(
            f"{error}; ways out: a mirror (HF_ENDPOINT=https://HOST), a copy at hand (data.source=files), "
            "or stories that the project writes itself (data.source=embedded, `make quickstart`)"
        ) from None


def _check_disk_space(files: Iterable[OfficialFile]) -> None:
    """Errors: UserError where the disk has no room for what is still to be downloaded."""
    needed = sum(file.content.bytes for file in files)
    for file in files:
        needed -= sum(path.stat().st_size for path in (part_file(file.kept_path), file.kept_path) if path.exists())
    for directory in (state_directory(), RAW_TRAIN.parent):
        directory.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(directory).free
        if free < needed:
            raise UserError(
                f"{directory}: {free / 1e9:.1f} GB free on this disk; the stories need {needed / 1e9:.1f} GB, "
                "and what DVC keeps of them twice as much again"
            )
