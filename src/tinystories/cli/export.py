"""`tinystories export`: the model as a file for other programs."""

import argparse
from pathlib import Path

EXAMPLES = """\
examples:
  tinystories export gguf                       models/tinystories-f16.gguf, for llama.cpp, Ollama, LM Studio ...
  tinystories export gguf --type q8_0           half as large, a little less exact
  tinystories export gguf --out my.gguf my_finetuned_model/
  tinystories export gguf models:/tinystories@champion

transformers, vLLM and others need no export: models/checkpoint opens there as it is.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the formats, each with its options."""
    from tinystories.common.paths import CHECKPOINT
    from tinystories.export.gguf import WEIGHT_TYPES

    parser.epilog = EXAMPLES
    formats = parser.add_subparsers(dest="format", metavar="format", required=True)
    text = "one file for llama.cpp and what is built on it"
    gguf = formats.add_parser("gguf", help=text, description=f"Write {text}.", allow_abbrev=False)
    which = "its directory, or models:/NAME@ALIAS (%(default)s)"
    gguf.add_argument("checkpoint", nargs="?", default=str(CHECKPOINT), help=which)
    gguf.add_argument("--type", choices=WEIGHT_TYPES, default="f16", help="of the weights (%(default)s)")
    gguf.add_argument("--out", type=Path, metavar="FILE", help="the file to write (models/tinystories-TYPE.gguf)")


def run(options: argparse.Namespace) -> None:
    """Write the file."""
    from tinystories.common.console import info
    from tinystories.export.gguf import export_gguf
    from tinystories.tracking.mlflow_registry import checkpoint_directory

    target = options.out or Path(f"models/tinystories-{options.type}.gguf")
    with checkpoint_directory(options.checkpoint) as directory:
        export_gguf(directory, target, options.type)
    info(f"{target}: {target.stat().st_size / 1e6:,.1f} MB")
