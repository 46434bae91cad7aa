"""All files that the stages before `plot` write, of a small finished run, in the current directory."""

import math

from tinystories.common import paths
from tinystories.common.artifacts import (
    Environment,
    EpochIndex,
    EpochRow,
    Evaluation,
    HistoryRow,
    Manifest,
    Run,
    StoryFile,
    TokenFile,
    TokenMeta,
    TrainMetrics,
)
from tinystories.common.corpus_figures import CorpusFigures, SplitFigures
from tinystories.common.epochs import epochs_with_samples
from tinystories.common.story_figures import GroupFigures, StoryFigures

FIGURES = SplitFigures(
    stories=2_345, words=390_123, bytes_per_token=3.9, shortest=7, p5=91, p50=205, p95=412, p99=530, longest=1_234
)
CORPUS = CorpusFigures(train=FIGURES, valid=FIGURES, cut_stories=0.87, duplicates=0.004, overlap=0.0012, mojibake=1.5)

REAL = GroupFigures(
    stories=128, ended=0.9375, words=180.4, new_words=0.0031, seq_rep_4=0.01, distinct_3=0.735, gzip_ratio=3.21,
    new_4grams=0.619, longest_copy_p50=10.0, longest_copy_p95=16.0, rouge_2=0.215, names_kept=None, pronouns_fit=0.75,
)  # fmt: skip
JUDGED = StoryFigures(
    train_tokens=499_998,
    unprompted=REAL.model_copy(update={"ended": 0.5, "seq_rep_4": 0.0234}),
    prompted=REAL.model_copy(update={"new_words": None, "longest_copy_p95": 12.4}),
    real=REAL,
)


def history_rows(count: int) -> list[HistoryRow]:
    return [
        HistoryRow(
            step=n, tokens=4096 * n, loss=1.5 + 8 / n, learning_rate=0.02 / n, gradient_norm=1.5,
            tokens_per_second=3_912.6, seconds=1.1 * n,
        )
        for n in range(1, count + 1)
    ]  # fmt: skip


def epoch_rows(count: int) -> list[EpochRow]:
    return [
        EpochRow(
            epoch=n, train_loss=3.1 / n, train_ppl=22.2, valid_loss=2.9 / n, valid_ppl=1234.5,
            valid_bits_per_byte=0.4912, step=20 * n, tokens=81_920 * n, seconds=61.4 * n,
        )
        for n in range(1, count + 1)
    ]  # fmt: skip


def sample_page(title: str, prompt: str | None, stories: list[str]) -> str:
    """A page of samples as the stages write it."""
    parts = [f"# {title}", "top-k 40, temperature 0.8, seed 1337"]
    for number, story in enumerate(stories, start=1):
        parts.append(f"## Prompt {number}" if prompt else "## Unprompted sample")
        if prompt:
            parts += ["**Prompt**", f"> {prompt}"]
        parts += ["**Continuation**", "\n".join(f"> {line}".rstrip() for line in story.split("\n"))]
        parts.append("(cut at 256 tokens)")
    return "\n\n".join(parts) + "\n"


def write_run(epochs: int) -> None:
    Manifest(
        source="files",
        detail={"train": "https://me:secret@host.example/a_b.txt?sig=secret", "valid": "", "held_out": 0.01},
        train=StoryFile(bytes=2_000_000, stories=2_345, sha256="ab" * 32),
        valid=StoryFile(bytes=20_000, stories=23, sha256="cd" * 32),
    ).write()
    tokens = TokenFile(tokens=500_000, stories=2_345, bytes=1_950_000, sha256="ef" * 32)
    TokenMeta(vocab_size=4096, tokenizer_sha256="12" * 32, train=tokens, valid=tokens).write()
    CORPUS.write()
    Evaluation(
        valid_loss=1.23456, valid_ppl=3.4368, valid_bits_per_byte=0.43217, valid_tokens=4_999,
        best_epoch=epochs, best_valid_loss=1.23456, best_valid_ppl=3.4368, best_valid_bits_per_byte=0.43217,
    ).write()  # fmt: skip
    JUDGED.write()
    TrainMetrics(
        train_loss=1.3, train_ppl=math.exp(1.3), steps=40, tokens=163_840, parameters=8_912_345,
        tokens_per_second=3_912.6, startup_seconds=83.2, seconds=3_725.0,
    ).write()  # fmt: skip
    Run(
        run_id="a1b2", key="0f" * 32, name="odd-name",
        started="2026-11-22T17:01:02+00:00", ended="2026-11-22T18:03:07+00:00",
        environment=Environment(
            device="cpu", device_name="EPYC_9|24 *Core*", precision="bf16", compiled=False, torch="2.13.0+cpu",
            python="3.11.7", platform="Linux-6.1-x86_64", threads=2, git_commit="9f" * 20,
        ),
    ).write()  # fmt: skip
    HistoryRow.write_table(history_rows(19))
    EpochRow.write_table(epoch_rows(epochs))
    paths.SAMPLES.mkdir(parents=True)
    EpochIndex(epochs=epochs_with_samples(epochs), best=epochs).write()
    for epoch in epochs_with_samples(epochs):
        page = sample_page(f"Samples after epoch {epoch}", "Once.", [f"Story of epoch {epoch}.", "second section"])
        (paths.SAMPLES / f"epoch_{epoch}.md").write_text(page)
    paths.FINAL_SAMPLES.write_text(sample_page("Final", "Once.", ["One end.", "Another end."]))
