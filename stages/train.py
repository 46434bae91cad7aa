"""Stage `train`: train the model, or go on where one of the same key stopped (params: seed, model, train, sample)."""

import os

import this_checkout  # noqa: F401  must come first: it makes this copy's src/ the one that is imported
from tinystories.params import Params
from tinystories.stage import run_stage


def main(params: Params) -> None:
    from tinystories.training import train  # torch takes seconds to import: the parameters are checked before

    train(params, experiment=os.environ.get("DVC_EXP_NAME"))


if __name__ == "__main__":
    run_stage(main)
