"""The figures of README.md and docs/benchmarks.md are those of the files in benchmarks/results/."""

import json
import re
from typing import Any

import pytest

from benchmarks import quality_table, scaling
from benchmarks.results import RESULTS
from tests.support.repository import ROOT

# A speed, a ratio or a share, of which a document says nothing without a source.
FIGURE = re.compile(r"\d[\d.,]*(?: to \d[\d.,]*)?(?: M)? (?:tokens/s|MB/s|ms a step|times|×|%)")
# In no file of results: the first is in docs/log.md, the second was read off the quickstart's screen.
ELSEWHERE = ["1.76 M tokens/s", "28,211 tokens/s"]
QUALITY = RESULTS / "quality-tinystories-v2-amd-epyc-2-cores.jsonl"
# The table's names of contenders, and those of the file.
PEERS = {
    "nanoGPT's GPT-2": "GPT-2 as in nanoGPT", "`transformers`, GPT-2": "transformers GPT-2",
    "`transformers`, Llama": "transformers Llama", "`x-transformers`": "x-transformers",
    "the public baseline's `nn.TransformerEncoder`, with two thirds of the parameters": "nn.TransformerEncoder",
}  # fmt: skip


def part(file: str, name: str) -> Any:
    return json.loads((RESULTS / file).read_text())["parts"][name]


def steps(file: str) -> dict[tuple[str, bool], Any]:
    """Rows of the part `train_step` by contender, and whether it is tuned; ours compiled."""
    rows = [
        row for row in part(file, "train_step")["rows"] if (row["contender"], row["variant"]) != ("ours", "bf16, eager")
    ]
    return {(row["contender"], "memory kept" in row["variant"]): row for row in rows}


def span(values: list[float], digits: int = 2) -> str:
    """`1.25 to 1.49`; with no digits after the point, `4 to 8`."""
    return " to ".join(f"{value:.{digits}f}" for value in (min(values), max(values)))


def ratios(file: str, *, tuned: bool, without: str = "") -> list[float]:
    found = steps(file).items()
    return [float(row["ours is faster"]) for (who, is_tuned), row in found
            if is_tuned == tuned and who not in ("ours", without)]  # fmt: skip


def generating(file: str, batch: int) -> list[float]:
    return [row["ratio"] for row in part(file, "generating")["rows"] if row["batch"] == batch]


def overhead(file: str) -> str:
    (row,) = (row for row in part(file, "overhead")["rows"] if row["shape"] == "reference")
    extra, step = row["ms/step outside"] + row["ms/step background"], steps(file)["ours", False]["ms/step"]
    return f"{100 * extra / step:.1f} %: {extra:.1f} ms a step"


def step_rows(file: str) -> list[str]:
    found = steps(file)
    return [
        f"| {'tuned: ' * tuned}{name} | {row['tokens/s']:,.0f} | {float(row['of roof'][:-1]):.0f} % "
        f"| {row['ours is faster']} × |"
        for tuned in (False, True) for name, peer in PEERS.items() if (row := found.get((peer, tuned)))
    ]  # fmt: skip


def best(steps: int, recipe: str) -> list[Any]:
    """The rows of a recipe at the best of its rates, a row for each seed."""
    groups = quality_table.groups_of(quality_table.read_rows(QUALITY), "valid", "reference")
    return quality_table.best_rate(groups, steps, recipe, "valid_loss")


def loss_and_bits(rows: list[Any]) -> list[str]:
    """Means over the rows: nats a token, bits per byte."""
    return [f"{quality_table.mean(rows, key):.3f}" for key in ("valid_loss", "valid_bits_per_byte")]


def quality_row(steps: int) -> str:
    """Losses are means over each recipe's seeds, the difference is of equal seeds."""
    gpt2, ours = best(steps, "gpt2"), best(steps, "ours")
    cells = [f"{steps:,}"]
    for rows in (gpt2, ours):
        cells += [f"{rows[0]['settings']['learning_rate']:g}", *loss_and_bits(rows)]
    gap = quality_table.difference(ours, gpt2, "valid_loss")
    assert gap and gap.error is not None
    return f"| {' | '.join(cells)} | {gap.mean:.3f} ± {gap.error:.3f} | {gap.pairs} |"


def scaling_rows() -> list[str]:
    """The fits, as the document's table has them."""
    columns = ("recipe", "lengths", "floor", "scale", "exponent", "at 163.84 M tokens")
    return ["| " + " | ".join(str(row[name]) for name in columns) + " |" for row in scaling.measure(QUALITY)["rows"]]


def text_phrases(file: str) -> list[str]:
    """Of the paragraphs on text and on shared cores."""
    rows = {row["name"]: row for row in part(file, "tokenizing")["rows"]}
    training = part(file, "tokenizing")["training"]
    _, all_cores = part(file, "storygen")["rows"]
    return [
        f"nothing compared: {rows['gigatoken alone']['MB/s']:.1f} MB/s; `tiktoken`: "
        f"{rows['tiktoken, encode_ordinary_batch']['times encode_batch']:.1f} times `encode_batch`",
        f"on them: {training['ours']:.0f} MB/s, `tokenizers` {training['tokenizers']:.0f} MB/s",
        f"generated at {all_cores['MB/s']} MB/s by two cores, {all_cores['times one']} times as fast as by one",
        *(
            f"| {row['alone']:,.0f} | {row['beside busy processes']:,.0f} | {row['four at once, together']:,.0f} |"
            for row in part(file, "sharing")["rows"]
        ),
    ]


def expected() -> dict[str, list[str]]:
    """Phrases that each document must have."""
    two, zen4, h200 = "cpu-2026-11-27.json", "cpu-2026-11-23.json", "nvidia-h200-2026-11-26.json"
    text = "cpu-2026-11-28.json"  # as two, a day later
    ours, encoding = steps(two)["ours", False], part(text, "tokenizing")
    speed, times = encoding["rows"][0]["MB/s"], encoding["rows"][0]["times encode_batch"]
    one, many = span(generating(two, 1), 0), span(generating(two, 32), 0)
    gpu = {row[0]: row[1] for row in (list(row.values()) for row in part(h200, "pipeline")["rows"])}
    train = gpu["train: seconds from reading the tokens to the checkpoint, with validation, samples, saves, MLflow"]
    (_, mine), (_, theirs) = (loss_and_bits(best(1_400, recipe)) for recipe in ("ours", "gpt2"))
    return {
        "README.md": [
            f"{ours['tokens/s']:,.0f} tokens/s: {span(ratios(two, tuned=False), 1)} times nanoGPT's",
            f"{span(ratios(two, tuned=True))} times four of them tuned",
            f"{speed:.1f} MB/s, {times:.1f} times `tokenizers.encode_batch`; "
            f"{span(generating(two, 1) + generating(two, 32), 0)} times `transformers.generate`",
            f"{mine} bits per byte; a GPT-2 with AdamW {theirs}",
            f"163.8 M tokens in {train:.0f} s; valid loss {gpu['valid loss after epoch 2']:.4f}",
        ],
        "docs/benchmarks.md": [
            f"| ours (bf16, compiled) | {ours['tokens/s']:,.0f} | {float(ours['of roof'][:-1]):.0f} % | |",
            *step_rows(two),
            f"{span(ratios(zen4, tuned=False, without='nn.TransformerEncoder'))} times as fast as the GPT-2, Llama",
            f"{steps(zen4)['nn.TransformerEncoder', False]['ours is faster']} times as fast as `nn.TransformerEncoder`",
            f"{span(ratios(zen4, tuned=True))} times as fast as those tuned",
            f"| {speed:.1f} MB/s, {times:.1f} times `tokenizers.encode_batch`, at most "
            f"{encoding['memory']['peak_bytes'] / 1e6:.0f} MB of memory for 1 GB of text "
            f"| {part(zen4, 'tokenizing')['rows'][0]['times encode_batch']:.1f} times |",
            *text_phrases(text),
            f"| {one} times as fast | {span(generating(zen4, 1), 0)} times |",
            f"| {many} times as fast | {min(generating(zen4, 32)):.1f} to {max(generating(zen4, 32)):.0f} times |",
            f"| {overhead(two)} | {overhead(zen4)} |",
            *map(quality_row, (160, 400, 1_400)),
            *scaling_rows(),
            f"one seed, ours is at {' nats, '.join(loss_and_bits(best(5_600, 'ours')))} bits per byte",
            f"{gpu['training, tokens/s, median of 2,000 rows of 20 steps'] / 1e6:.2f} M tokens/s: median",
            f"a tenth below {gpu['training, tokens/s, first decile'] / 1e6:.2f} M",
            f"MLflow | {train:.0f} |",
            f"Scored again in fp32 on all 3,290,883 validation tokens: loss {gpu['valid loss, fp32']:.4f}",
        ],
    }  # fmt: skip


def text_of(document: str) -> str:
    return " ".join((ROOT / document).read_text(encoding="utf-8").split())


def sections(document: str) -> str:
    """Where measurements are reported."""
    titles = ["Training step", "Encoding, generating, overhead", "Training on shared cores", "GPU"]
    if document == "README.md":
        titles = ["Results"]
    text = (ROOT / document).read_text(encoding="utf-8")
    parts = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    return " ".join(" ".join(found[title] for title in titles).split())


@pytest.mark.parametrize("document", ["README.md", "docs/benchmarks.md"])
def test_figures_are_those_of_the_results(document: str) -> None:
    text = text_of(document)
    assert [phrase for phrase in expected()[document] if phrase not in text] == []


@pytest.mark.parametrize("document", ["README.md", "docs/benchmarks.md"])
def test_no_figure_is_without_a_source(document: str) -> None:
    rest = sections(document)
    for phrase in [*expected()[document], *ELSEWHERE]:
        rest = rest.replace(phrase, "")
    assert FIGURE.findall(rest) == []


def test_figure_finds_speeds_ratios_and_shares() -> None:
    text = "10,617 tokens/s, 2.4 to 2.9 times, 1.37 ×, 0.4 to 0.7 %, 3.06 M tokens/s, 5.1 ms a step; 5 rounds, 1.64 M"
    assert len(FIGURE.findall(text)) == 6
