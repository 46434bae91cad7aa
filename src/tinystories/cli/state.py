"""`tinystories state`: list the saved states of trainings; remove those that are not needed any more."""

import argparse

EXAMPLES = """\
examples:
  tinystories state               list them
  tinystories state --free        remove those of finished trainings, and trunks, from which longer trainings go on
  tinystories state --free --all  remove those of stopped trainings too, which then cannot be resumed
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.epilog = EXAMPLES
    parser.add_argument("--free", action="store_true", help="remove those of finished trainings, and trunks")
    parser.add_argument("--all", action="store_true", help="with --free: also those that could be resumed")


def run(options: argparse.Namespace) -> None:
    """List the saved states; with `--free` remove finished ones and trunks, with `--free --all` stopped ones too."""
    from tinystories.common import paths
    from tinystories.common.console import info
    from tinystories.training.resume import sweep
    from tinystories.training.retention import describe, free, saved_trainings

    parent, trunk_parent = paths.training_states(), paths.trunk_states()
    trainings, trunks = saved_trainings(parent), saved_trainings(trunk_parent)
    found = [*trainings, *trunks]
    for saved in found:
        info(describe(saved, is_trunk=saved in trunks))
    if options.free:
        sweep(parent)
        sweep(trunk_parent)
        freed = [saved for saved in found if (options.all or saved.finished or saved in trunks) and free(saved)]
        info(f"Freed {len(freed)} of {len(found)} saved states, {sum(saved.size for saved in freed) / 1e6:,.1f} MB.")
        if not options.all and any(not saved.finished for saved in trainings):
            info("Unfinished ones stay, because their training can be resumed; --free --all frees them too.")
    elif not found:
        info(f"{parent}: no saved states")
