"""Speed of the stage `download` with generated stories: text, checksum and file, from one process and from several."""

import tempfile
import time
from contextlib import chdir
from statistics import median
from unittest import mock

from benchmarks.results import Result
from tinystories.common.cores import usable_cores
from tinystories.common.params import EmbeddedSource
from tinystories.sources import embedded

STORIES = 488_000  # 520 MB with those to validate on
ROUNDS = 3


def measure(stories: int = STORIES) -> Result:
    """MB of text a second of one process and of all usable cores, medians of interleaved rounds."""
    cores = usable_cores()
    counts = [1, cores] if cores > 1 else [1]
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    checksums = set()
    with tempfile.TemporaryDirectory() as directory, chdir(directory):
        for _ in range(ROUNDS):
            for count in counts:
                with mock.patch.object(embedded, "usable_cores", lambda count=count: count):
                    start = time.perf_counter()
                    manifest = embedded.prepare_embedded(EmbeddedSource(stories=stories, seed=0))
                    seconds[count].append(time.perf_counter() - start)
                checksums.add((manifest.train.sha256, manifest.valid.sha256))
    megabytes = (manifest.train.bytes + manifest.valid.bytes) / 1e6
    rows = [
        {
            "usable cores": count,
            "MB/s": round(megabytes / median(seconds[count]), 1),
            "times one": f"{median(one / it for one, it in zip(seconds[1], seconds[count], strict=True)):.2f}",
        }
        for count in counts
    ]
    return {
        "title": "Generating stories",
        "columns": list(rows[0]),
        "rows": rows,
        "notes": [
            f"{megabytes:.0f} MB with sha256 and file; medians of {ROUNDS} interleaved rounds",
            f"files {'identical' if len(checksums) == 1 else 'DIFFERENT'}",
        ],
    }
