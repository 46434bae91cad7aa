"""Find the user's files below `data.files.path`, the place that DVC watches."""

import glob
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

PATH, TRAIN, VALID = "data.files.path", "data.files.train", "data.files.valid"


def find_files(source: FilesSource) -> tuple[list[UserFile], list[UserFile]]:
    """Find the files of both splits, in the order of their relative names, compared byte by byte.

    A file of the validation split is in no other. Errors: UserError for what is missing, and for what DVC would not
    watch: a file elsewhere, a directory behind a link.
    """
    for key, value in ((PATH, source.path), (TRAIN, source.train), (VALID, source.valid)):
        _refuse_address(key, value)
    base = Path(source.path.strip())
    try:
        if base.is_file():
            for key, value in ((TRAIN, source.train), (VALID, source.valid)):
                if value.strip():
                    raise UserError(f"{key} is {value!r}, but {PATH} is one file, {source.path!r}; name its directory")
            return [UserFile(PATH, source.path.strip(), base, source.column, source.documents)], []
        if not base.is_dir():
            found = "no regular file" if base.exists() else "a link that leads nowhere" if base.is_symlink() else None
            raise UserError(
                f"{PATH} is {source.path!r}; {found or 'no such file or directory'}, seen from {Path.cwd()}"
            )
        names = sorted(_walk(base), key=os.fsencode)
        valid = _select(VALID, source.valid.strip(), base, names) if source.valid.strip() else []
        train = _select(TRAIN, source.train.strip(), base, names) if source.train.strip() else names
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{PATH} is {source.path!r}: {reason}") from None
    train = [name for name in train if name not in set(valid)]
    if not train:
        left = f" beside those of {VALID}" if valid else ""
        raise UserError(f"{PATH} is {source.path!r}; no documents in it{left}{_hint_of_copies(base)}")

    def files(key: str, names: list[str]) -> list[UserFile]:
        return [UserFile(key, str(base / name), base / name, source.column, source.documents) for name in names]

    return files(TRAIN if source.train.strip() else PATH, train), files(VALID, valid)


def _refuse_address(key: str, value: str) -> None:
    value = value.strip()
    if is_address(value):
        address = redact(value)
        name = shlex.quote(f"data/own/{address.rstrip('/').rpartition('/')[2]}")
        raise UserError(
            f"{key} is {address!r}; a path is expected, because DVC watches files; run: "
            f"dvc import-url {shlex.quote(address)} {name} and give {PATH}={name}"
        )


def _walk(base: Path) -> Iterator[str]:
    """Yield the relative names of all files; hidden ones and DVC's own (`.dvc`) are none."""
    for directory, subdirectories, files in os.walk(base, onerror=_raise):
        subdirectories[:] = [name for name in subdirectories if not name.startswith(".")]
        here = Path(directory)
        for name in subdirectories:
            if (here / name).is_symlink():
                raise UserError(
                    f"{PATH}: {here / name} is a link to a directory, where DVC does not look; move or copy the files "
                    f"here, or give {PATH}={shlex.quote(str((here / name).resolve()))}"
                )
        for name in files:
            if name.startswith(".") or name.endswith(".dvc"):
                continue
            path = here / name
            if not path.is_file():
                raise UserError(f"{PATH}: {path}: {_missing(path)}")
            yield path.relative_to(base).as_posix()


def _missing(path: Path) -> str:
    if path.exists():
        return "no regular file"
    return "a link that leads nowhere" if path.is_symlink() else "no such file or directory"


def _raise(error: OSError) -> NoReturn:
    raise UserError(f"{PATH}: {error.filename}: not readable ({error.strerror})")


def _select(key: str, value: str, base: Path, names: list[str]) -> list[str]:
    """The names that a path below `base` stands for, a file or a directory, or that a glob matches."""
    wanted = os.path.normpath(value)
    selected = [name for name in names if name == wanted or name.startswith(f"{wanted}/")]
    if not selected and not Path(value).is_absolute():
        matches = {os.path.normpath(name) for name in glob.glob(value, root_dir=base, recursive=True)}  # noqa: PTH207
        selected = [name for name in names if name in matches]
    if not selected:
        raise UserError(f"{key} is {value!r}; no such file in {PATH}, which is {str(base)!r}{_elsewhere(key, value)}")
    return selected


def _elsewhere(key: str, value: str) -> str:
    """The command that is right where the name was meant as it is seen from here."""
    wanted = Path(value).expanduser()
    magic = next((number for number, part in enumerate(wanted.parts) if glob.has_magic(part)), len(wanted.parts) - 1)
    directory = Path(*wanted.parts[:magic])
    options = {PATH: str(wanted), TRAIN: ""}
    if not wanted.exists() or key != TRAIN:
        if not (directory.parts and directory.is_dir()):
            return ""
        options = {PATH: str(directory), key: str(wanted.relative_to(directory))}
    return "; run: dvc exp run " + " ".join(f"-S {shlex.quote(f'{key}={value}')}" for key, value in options.items())


def _hint_of_copies(base: Path) -> str:
    """What helps in the copy of the repository in which `dvc exp run --temp` and `--queue` run."""
    root = repository_root()
    if base.is_absolute() or root == Path.cwd().resolve() or not (root / base).exists():
        return f"; put files there, or give another place: dvc exp run -S {PATH}=my_stories"
    return (
        f"; --temp and --queue see what git and DVC know, not the files in {root / base}: dvc add them, and git add "
        "and commit the .dvc files"
    )
