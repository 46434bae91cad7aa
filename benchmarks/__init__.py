"""Benchmarks: this project and others, interleaved in one run. See README.md in this directory.

Importing this makes `src/` of this checkout the library that is measured, installed or not.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
