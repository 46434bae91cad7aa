"""Stage `train_tokenizer`: train a tokenizer, or take over that of the model that the training goes on from."""

import shutil

from tinystories.common import paths
from tinystories.common.artifacts import Parent, ParentRecord
from tinystories.common.console import info
from tinystories.common.files import sha256_of
from tinystories.common.params import Params
from tinystories.common.parent_shape import refuse_other_shape
from tinystories.tokenization.tokenizer import load_tokenizer_of
from tinystories.tokenizer_training.bpe import save_tokenizer, train_and_save
from tinystories.tracking.mlflow_registry import checkpoint_directory


def prepare_tokenizer(params: Params) -> None:
    """Write tokenizer.json, and the record of the parent; where `train.init_from` names one, also its copy.

    Errors: UserError where the parent is missing, damaged, or of another shape than params.yaml says.
    """
    shutil.rmtree(paths.PARENT_RECORD.parent, ignore_errors=True)
    parent = None
    if params.train.init_from:
        parent = _take_over(params)
    else:
        train_and_save(params)
    ParentRecord(parent=parent).write()


def _take_over(params: Params) -> Parent:
    """Copy weights and tokenizer. The training reads the copy alone: an alias that moves meanwhile changes nothing."""
    from tinystories.model.checkpoint import load_checkpoint, save_checkpoint  # torch takes seconds to import
    from tinystories.model.stored_weights import WEIGHTS

    init_from = params.train.init_from
    with checkpoint_directory(init_from, params.mlflow.tracking_uri) as directory:
        refuse_other_shape(params, directory)
        model = load_checkpoint(directory)
        tokenizer = load_tokenizer_of(directory, model.vocab_size)
        # As train writes them, also where others wrote the checkpoint: equal weights and entries are equal bytes.
        save_tokenizer(tokenizer, paths.TOKENIZER)
        save_checkpoint(model, paths.TOKENIZER, paths.PARENT)
    info(f"No tokenizer is trained: that of {init_from} is taken over, with its weights.")
    return Parent(init_from=init_from, sha256=sha256_of(paths.PARENT / WEIGHTS))
