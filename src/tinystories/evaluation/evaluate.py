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
from tinystories.common.story_figures import StoryFigures
from tinystories.evaluation.stories import judge_stories
from tinystories.inference.loss_eval import EvalResult, evaluate_loss
from tinystories.inference.samples import render_samples
from tinystories.model.checkpoint import load_checkpoint
from tinystories.model.cpu_kernels import compile_kernels
from tinystories.model.device import choose_device, limit_threads, translate_device_errors
from tinystories.model.gpt import GPT
from tinystories.tokenization.token_files import TokenArray, check_counts, matching_tokenizer, open_tokens


@translate_device_errors("evaluate.batch_size")
def evaluate(params: Params) -> None:
    """Write reports/evaluate.json, reports/stories.json, and reports/samples/: of the kept epochs, and the final ones.

    Errors: UserError where checkpoints, tokenizer and tokens are not of one training; after all is written, where the
    model is worse than evaluate.max_bits_per_byte.
    """
    limit_threads()
    meta, index = TokenMeta.read(), EpochIndex.read()
    tokenizer = matching_tokenizer(meta, paths.CHECKPOINT / "tokenizer.json")
    model = _load(paths.CHECKPOINT, meta.vocab_size)
    tokens = open_tokens(paths.TOKENS_VALID, meta.valid, meta.vocab_size)
    check_counts(paths.TOKENS_VALID, tokens, meta.valid, tokenizer)
    train = open_tokens(paths.TOKENS_TRAIN, meta.train, meta.vocab_size) if params.evaluate.stories else None
    # Evaluated where it was trained: train.device and train.compile, no second parameters that could disagree.
    device = choose_device(params.train.device)
    model.to(device)
    dtype = torch.bfloat16 if params.evaluate.precision == "bf16" else torch.float32
    if device.type == "cpu" and params.train.compile != "off":
        for each in {dtype, model.compute_dtype}:  # of the loss, of the samples
            compile_kernels(model.config.head_size, each)
    valid = _validate(params, paths.CHECKPOINT, model, dtype, tokens, meta)
    best_model, best = model, valid
    if index.best != index.epochs[-1]:
        best_model = _load(paths.BEST, meta.vocab_size).to(device)
        best = _validate(params, paths.BEST, best_model, dtype, tokens, meta, f" of the best epoch, {index.best}")
    published = best_model if params.publish.model == "best" else model
    _write_samples(params, model, index.epochs, published, tokenizer)
    if train is None:
        StoryFigures().write()
    else:
        size, count = params.evaluate.batch_size, params.evaluate.stories
        judge_stories(published.inference_copy(), tokenizer, train, tokens, count, size).write()
    figures = Evaluation(
        valid_loss=round(valid.loss, 6),
        valid_ppl=round(valid.perplexity, 4),
        valid_bits_per_byte=round(valid.bits_per_byte, 6),
        valid_tokens=valid.tokens,
        best_epoch=index.best,
        best_valid_loss=round(best.loss, 6),
        best_valid_ppl=round(best.perplexity, 4),
        best_valid_bits_per_byte=round(best.bits_per_byte, 6),
    )
    figures.write()
    _check_limit(params.evaluate.max_bits_per_byte, figures.of(params.publish.model).valid_bits_per_byte)


def _validate(
    params: Params,
    directory: Path,
    model: GPT,
    dtype: torch.dtype,
    tokens: TokenArray,
    meta: TokenMeta,
    which: str = "",
) -> EvalResult:
    """The loss of the model in `directory` on the validation set. Errors: UserError where it is none."""
    batch_size = params.evaluate.batch_size
    with progress("Computing the validation loss", len(tokens)) as bar:
        window = batch_size * model.config.context_length
        advance = lambda: bar.advance(window)  # noqa: E731
        valid = evaluate_loss(model.inference_copy(dtype), tokens, meta.valid.bytes, batch_size, advance)
    if not math.isfinite(valid.loss) or valid.loss > MAX_VALUE:
        raise UserError(f"{directory}: its validation loss is {valid.loss}; run the stage train again")
    figures = f"loss {valid.loss:.4f}, PPL {valid.perplexity:,.2f}, {valid.bits_per_byte:.4f} bits per byte"
    info(f"Validation{which}: {figures}")
    return valid


def _check_limit(limit: float | None, bits_per_byte: float) -> None:
    """Errors: UserError where there is a limit and the model to publish is worse.

    DVC records no output of a failed stage.
    """
    if limit is not None and bits_per_byte > limit:
        raise UserError(
            f"evaluate.max_bits_per_byte is {limit:g}, but the model has {bits_per_byte:.4f}; train it better or raise "
            f"the limit ({paths.EVALUATION} has the figures, DVC does not keep them)"
        )


def _load(directory: Path, vocab_size: int) -> GPT:
    model = load_checkpoint(directory)
    if model.vocab_size != vocab_size:
        raise UserError(
            f"{directory}: a vocabulary of {model.vocab_size:,}, but the tokens have {vocab_size:,}; "
            "run the stage train again"
        )
    return model


def _write_samples(params: Params, model: GPT, kept: list[int], published: GPT, tokenizer: Tokenizer) -> None:
    """Write a page of samples for each kept epoch, and the final ones, of the model to publish.

    `model` is that of the last epoch.
    """

    def render(model: GPT, title: str) -> str:
        return render_samples(model.inference_copy(), tokenizer, params.sample, params.seed, title)

    def write(epoch: int, model: GPT) -> str:
        page = render(model, f"Samples after epoch {epoch}")
        write_text(paths.epoch_samples(epoch), page)
        bar.advance(1)
        return page

    with progress("Generating samples", len(kept)) as bar:
        for epoch in kept[:-1]:
            write(epoch, _load(paths.epoch_checkpoint(epoch), model.vocab_size).to(model.embedding.device))
        page = write(kept[-1], model)
        if published is not model:
            page = render(published, "Final samples")
        _, _, samples = page.partition("\n")
        write_text(paths.FINAL_SAMPLES, f"# Final samples\n{samples}")
