"""Importing this makes `src/` of the copy that the stage runs in the source of `tinystories`.

`dvc exp run --temp` and `--queue` run stages in a copy of the repository, while an editable installation points to the
user's working tree. Without this line an experiment would run whatever code lies there at that moment, not its own.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
