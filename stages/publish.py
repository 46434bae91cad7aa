"""Stage `publish`: bring the MLflow run level with the files (params: mlflow)."""

import os

import this_checkout  # noqa: F401  must come first: it makes this copy's src/ the one that is imported
from tinystories.params import Params
from tinystories.paths import repository_root
from tinystories.stage import run_stage


def main(params: Params) -> None:
    from tinystories.tracking import publish  # heavy imports wait until the parameters are checked

    publish(params, repository_root(), name=os.environ.get("DVC_EXP_NAME"))


if __name__ == "__main__":
    run_stage(main)
