"""Import graph of the project: which of its own files a file imports, directly or through others."""

import ast
from pathlib import Path

from tests.support.repository import ROOT

CPP = (".cpp", ".h")
# The library's face: it imports what is asked for by name, and no stage asks it for anything.
FACE = ROOT / "src/tinystories/__init__.py"


def imported(path: Path) -> set[Path]:
    """Find the project's own files that one file imports, inside functions too."""
    if path == FACE:
        return set()
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            # `from .words import X` is meant from the package that the file lies in.
            around = path.relative_to(ROOT / "src").parts[: -node.level] if node.level else ()
            module = ".".join([*around, *(node.module or "").split(".")]).strip(".")
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            place = Path(*name.split("."))
            for base in (ROOT / "src", ROOT / "stages"):
                candidates = (base / place.with_suffix(".py"), base / place / "__init__.py")
                found |= {candidate for candidate in candidates if candidate.exists()}
            # Importing a module runs the packages around it.
            inits = (ROOT / "src" / parent / "__init__.py" for parent in place.parents)
            found |= {init for init in inits if init.exists()}
    return found


def closure(path: Path) -> set[Path]:
    """Find all files of the project that a file imports, directly or through others; C++ goes with its package."""
    seen, waiting = {path}, [path]
    while waiting:
        new = imported(waiting.pop()) - seen
        seen |= new
        waiting += new
    packages = [path.parent for path in seen if path.name == "__init__.py"]
    return seen | {source for package in packages for ending in CPP for source in package.glob(f"*{ending}")}


def is_empty(path: Path) -> bool:
    """Whether a file holds nothing but a docstring, or is the library's face: no stage can depend on it."""
    if path == FACE:
        return True
    return path.suffix == ".py" and all(isinstance(node, ast.Expr) for node in ast.parse(path.read_text()).body)
