"""Stage `publish`: bring the MLflow run level with the files (params: mlflow)."""

import os
import sys
from pathlib import Path

# This copy's src/ comes first: `dvc exp run --temp` and `--queue` run in a copy, an editable installation is elsewhere.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from tinystories.common.params import Params
from tinystories.common.paths import repository_root
from tinystories.common.stage import run_stage


def main(params: Params) -> None:
    from tinystories.publishing.publish import publish

    publish(params, repository_root(), name=os.environ.get("DVC_EXP_NAME"))


if __name__ == "__main__":
    run_stage(main)
