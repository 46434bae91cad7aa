"""The `evaluate` stage: the checkpoint, as any other program would load it, on the whole validation set; samples."""

import math
from pathlib import Path

import torch
from tokenizers import Tokenizer

from tinystories.common import paths
from tinystories.common.artifacts import MAX_VALUE, EpochIndex, Evaluation, TokenMeta
from tinystories.common.console import info, progress
from tinystories.common.errors import UserError
from tinystories.common.files import write_text
from tinystories.common.params import Params
from tinystories.inference.loss_eval import evaluate_loss
from tinystories.inference.samples import render_samples
from tinystories.model.checkpoint import load_checkpoint
from tinystories.model.cpu_kernels import compile_kernels
from tinystories.model.device import choose_device, limit_threads, translate_device_errors
from tinystories.model.gpt import GPT
from tinystories.tokenization.token_files import check_counts, matching_tokenizer, open_tokens


@translate_device_errors("evaluate.batch_size")
def evaluate(params: Params) -> None:
    """Write reports/evaluate.json, and reports/samples/: those of the epochs that `train` has kept, and the final ones.

    Errors: UserError where checkpoints, tokenizer and tokens are not of one training.
    """
    limit_threads()
    meta, kept = TokenMeta.read(), EpochIndex.read().epochs
    tokenizer = matching_tokenizer(meta, paths.CHECKPOINT / "tokenizer.json")
    model = _load(paths.CHECKPOINT, meta.vocab_size)
    tokens = open_tokens(paths.TOKENS_VALID, meta.valid, meta.vocab_size)
    check_counts(paths.TOKENS_VALID, tokens, meta.valid, tokenizer)
    # Evaluated where it was trained: train.device and train.compile, no second parameters that could disagree.
    device = choose_device(params.train.device)
    model.to(device)
    dtype = torch.bfloat16 if params.evaluate.precision == "bf16" else torch.float32
    if device.type == "cpu" and params.train.compile != "off":
        for each in {dtype, model.compute_dtype}:  # of the loss, of the samples
            compile_kernels(model.config.head_size, each)
    with progress("Computing the validation loss", len(tokens)) as bar:
        window = params.evaluate.batch_size * model.config.context_length
        valid = evaluate_loss(
            model.inference_copy(dtype),
            tokens,
            meta.valid.bytes,
            params.evaluate.batch_size,
            lambda: bar.advance(window),
        )
    if not math.isfinite(valid.loss) or valid.loss > MAX_VALUE:
        raise UserError(f"{paths.CHECKPOINT}: its validation loss is {valid.loss}; run the stage train again")
    info(f"Validation: loss {valid.loss:.4f}, PPL {valid.perplexity:,.2f}, {valid.bits_per_byte:.4f} bits per byte")
    _write_samples(params, model, kept, tokenizer)
    Evaluation(
        valid_loss=round(valid.loss, 6),
        valid_ppl=round(valid.perplexity, 4),
        valid_bits_per_byte=round(valid.bits_per_byte, 6),
        valid_tokens=valid.tokens,
    ).write()


def _load(directory: Path, vocab_size: int) -> GPT:
    model = load_checkpoint(directory)
    if model.vocab_size != vocab_size:
        raise UserError(
            f"{directory}: a vocabulary of {model.vocab_size:,}, but the tokens have {vocab_size:,}; "
            "run the stage train again"
        )
    return model


def _write_samples(params: Params, model: GPT, kept: list[int], tokenizer: Tokenizer) -> None:
    """Write a page of samples for each kept epoch, and the final ones. `model` is that of the last epoch."""

    def write(epoch: int, model: GPT) -> str:
        title = f"Samples after epoch {epoch}"
        page = render_samples(model.inference_copy(), tokenizer, params.sample, params.seed, title)
        write_text(paths.epoch_samples(epoch), page)
        bar.advance(1)
        return page

    with progress("Generating samples", len(kept)) as bar:
        for epoch in kept[:-1]:
            write(epoch, _load(paths.epoch_checkpoint(epoch), model.vocab_size).to(model.embedding.device))
        _, _, samples = write(kept[-1], model).partition("\n")
        write_text(paths.FINAL_SAMPLES, f"# Final samples\n{samples}")  # the same model's, so the same ones
