"""The files that a training writes, in the current directory's `models` and `reports`."""

from pathlib import Path


def read_results(here: Path) -> dict[str, bytes]:
    """All files, by path."""
    found = (path for room in ("models", "reports") for path in (here / room).rglob("*") if path.is_file())
    return {str(path.relative_to(here)): path.read_bytes() for path in found}


def delete_results(here: Path) -> None:
    """As DVC does before a stage runs."""
    for name in read_results(here):
        (here / name).unlink()
