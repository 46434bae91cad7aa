"""`python -m benchmarks [part ...]`: measure, print a table for each part, merge all into one JSON file."""

import argparse
import importlib
import os

# Models and data sets come from nowhere but this machine. Before transformers is imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from benchmarks.results import merge, result_file, table
from tinystories.model.device import choose_device

PARTS = ("train_step", "storygen", "tokenizing", "generating", "overhead", "sharing", "gpt2_small")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("part", nargs="*", help=f"one of {', '.join(PARTS)}; all where none is named")
    parts = parser.parse_args().part or PARTS
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    device = choose_device("auto")
    path = result_file(device)
    for part in parts:
        result = importlib.import_module(f"benchmarks.{part}").measure()
        print(f"\n{table(result)}\n", flush=True)
        merge(path, device, part, result)  # after each: what is measured is not lost when a later part fails
    print(f"Written: {path}")


if __name__ == "__main__":
    main()
