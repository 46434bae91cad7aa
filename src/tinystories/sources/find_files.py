"""Find the user's files in the places that DVC watches: `data.files.train` and `data.files.valid`."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from tinystories.common.errors import UserError
from tinystories.common.params import FilesSource
from tinystories.common.paths import repository_root
from tinystories.common.urls import is_address, redact
from tinystories.sources.readers.read import UserFile

TRAIN, VALID = "data.files.train", "data.files.valid"


def find_files(source: FilesSource) -> tuple[list[UserFile], list[UserFile]]:
    """Find the files of both splits, in the order of their relative names, compared byte by byte.

    A file of the validation split is in no other; a directory without documents is an empty split. Errors: UserError
    for what is missing, for a directory behind a link, where DVC does not look, and for nothing to train on.
    """
    valid = _files(VALID, source.valid, source)
    held = {file.path.resolve() for file in valid}
    train = [file for file in _files(TRAIN, source.train, source) if file.path.resolve() not in held]
    if not train:
        left = f" besides those of {VALID}" if valid else ""
        raise UserError(f"{TRAIN} is {source.train!r}; no documents in it{left}{_hint_of_copies(source.train)}")
    return train, valid


def _files(key: str, value: str, source: FilesSource) -> list[UserFile]:
    """The file that `value` names, or those in the directory. Errors: UserError."""
    value = value.strip()
    _refuse_address(key, value)
    base = Path(value)
    try:
        if base.is_file():
            paths = [base]
        elif base.is_dir():
            paths = [base / name for name in sorted(_walk(key, base), key=os.fsencode)]
        else:
            raise UserError(f"{key} is {value!r}; {_missing(base)}, seen from {Path.cwd()}")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{key} is {value!r}: {reason}") from None
    return [UserFile(key, str(path), path, source.column, source.documents) for path in paths]


def _refuse_address(key: str, value: str) -> None:
    if is_address(value):
        address = redact(value)
        place = f"data/own/{key.rpartition('.')[2]}"
        name = shlex.quote(f"{place}/{address.rstrip('/').rpartition('/')[2]}")
        raise UserError(
            f"{key} is {address!r}; a path is expected, because DVC watches files; run: "
            f"dvc import-url {shlex.quote(address)} {name} and give {key}={name}"
        )


def _walk(key: str, base: Path) -> Iterator[str]:
    """Yield the relative names of all files; hidden ones and DVC's own (`.dvc`) are none."""

    def fail(error: OSError) -> NoReturn:
        raise UserError(f"{key}: {error.filename}: not readable ({error.strerror})")

    for directory, subdirectories, files in os.walk(base, onerror=fail):
        subdirectories[:] = [name for name in subdirectories if not name.startswith(".")]
        here = Path(directory)
        for name in subdirectories:
            if (here / name).is_symlink():
                raise UserError(
                    f"{key}: {here / name} is a link to a directory, where DVC does not look; move or copy the files "
                    f"here, or give {key}={shlex.quote(str((here / name).resolve()))}"
                )
        for name in files:
            if name.startswith(".") or name.endswith(".dvc"):
                continue
            path = here / name
            if not path.is_file():
                raise UserError(f"{key}: {path}: {_missing(path)}")
            yield path.relative_to(base).as_posix()


def _missing(path: Path) -> str:
    if path.exists():
        return "no regular file"
    return "a link that leads nowhere" if path.is_symlink() else "no such file or directory"


def _hint_of_copies(value: str) -> str:
    """What helps in the copy of the repository in which `dvc exp run --temp` and `--queue` run."""
    base, root = Path(value.strip()), repository_root()
    if base.is_absolute() or root == Path.cwd().resolve() or not (root / base).exists():
        return f"; put files there, or give another place: dvc exp run -S {TRAIN}=my_stories"
    return (
        f"; --temp and --queue see what git and DVC know, not the files in {root / base}: dvc add them, and git add "
        "and commit the .dvc files"
    )
