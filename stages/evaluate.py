"""Stage `evaluate`: score the checkpoint on the validation set and draw final samples (params: evaluate, sample)."""

import this_checkout  # noqa: F401  must come first: it makes this copy's src/ the one that is imported
from tinystories.params import Params
from tinystories.stage import run_stage


def main(params: Params) -> None:
    from tinystories.evaluation import evaluate  # torch takes seconds to import: the parameters are checked before

    evaluate(params)


if __name__ == "__main__":
    run_stage(main)
