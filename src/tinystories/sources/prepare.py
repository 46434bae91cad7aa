"""Stage `download`: get the stories from the source that `data.source` names."""

from tinystories.common.console import info, plural
from tinystories.common.params import Params
from tinystories.common.parent_shape import refuse_other_directory
from tinystories.common.paths import RAW_MANIFEST


def prepare(params: Params) -> None:
    """Write training and validation stories, and last the manifest.

    Errors: UserError where files, network or disk do not give the stories; then nothing half-written is left.
    """
    refuse_other_directory(params)  # before minutes of work
    RAW_MANIFEST.unlink(missing_ok=True)  # it must never describe files that are about to change
    match params.data.source:  # a source's imports are slow, and only one is needed
        case "tinystories":
            from tinystories.sources.official import prepare_official

            manifest = prepare_official(params.data.tinystories)
        case "embedded":
            from tinystories.sources.embedded import prepare_embedded

            manifest = prepare_embedded(params.data.embedded)
        case "files":
            from tinystories.sources.files import prepare_files

            manifest = prepare_files(params.data.files)
    manifest.write()
    train, valid = manifest.train, manifest.valid
    size = f"{train.bytes / 1e6:,.1f} MB" if train.bytes >= 1e5 else f"{train.bytes / 1e3:,.1f} kB"
    info(f"{plural(train.stories, manifest.noun)} to train on ({size}), {valid.stories:,} to validate on")
