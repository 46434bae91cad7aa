"""Stage `download`: get the stories (params: data, seed for embedded stories)."""

import this_checkout  # noqa: F401  must come first: it makes this copy's src/ the one that is imported
from tinystories.params import Params
from tinystories.stage import run_stage


def main(params: Params) -> None:
    from tinystories.sources import prepare  # heavy imports wait until the parameters are checked

    prepare(params)


if __name__ == "__main__":
    run_stage(main)
