"""The judged stories in the report: each figure of the model's beside that of real ones."""

from typing import NamedTuple

from tinystories.common.story_figures import StoryFigures
from tinystories.reporting.markdown import table


class _Measure(NamedTuple):
    """How a figure is called and shown, and how to read it beside that of real texts. `{noun}`: one of them."""

    title: str
    form: str
    reading: str


_MEASURES = {
    "stories": _Measure("{texts}", "{:,}", "How many were measured."),
    "words": _Measure("words in one", "{:.0f}", "Far fewer than real ones have: it stops early; far more: it rambles."),
    "ended": _Measure(
        "ended, and with a sentence",
        "{:.1%}",
        "Those that end by themselves with a whole sentence; fewer: it loses its way.",
    ),
    "new_words": _Measure(
        "words never seen in training",
        "{:.2%}",
        "Mostly misspelt or made up; more than real ones have: it cannot spell yet.",
    ),
    "seq_rep_4": _Measure(
        "seq-rep-4: 4-grams said before",
        "{:.2%}",
        "Four words that the same {noun} had already; more: it goes in circles.",
    ),
    "distinct_3": _Measure(
        "distinct-3: different 3-grams",
        "{:.1%}",
        "How much of what it says it says only once; less: all {texts} are alike.",
    ),
    "gzip_ratio": _Measure(
        "gzip ratio", "{:.2f}", "How far a file of them can be compressed; further: they are monotonous."
    ),
    "new_4grams": _Measure(
        "4-grams new against training", "{:.1%}", "Four words that no training {noun} has in a row; fewer: it copies."
    ),
    "longest_copy_p50": _Measure(
        "longest copied run, words, median",
        "{:.0f}",
        "Words in a row that stand in a training {noun}; more: it recites.",
    ),
    "longest_copy_p95": _Measure(
        "longest copied run, words, p95", "{:.0f}", "The same for the twentieth of the {texts} that copy most."
    ),
    "rouge_2": _Measure(
        "Rouge-2 precision, nearest in training",
        "{:.3f}",
        "Pairs of words that the most similar training {noun} has too; more: it retells that one.",
    ),
    "names_kept": _Measure(
        "names that stay", "{:.1%}", "Names that are those it began with; fewer: it confuses who is who."
    ),
    "pronouns_fit": _Measure(
        "pronouns with somebody they fit",
        "{:.1%}",
        "Whether somebody is there whom each he and she can mean; fewer: it forgets.",
    ),
}


class Judgement(NamedTuple):
    """The judged stories as tables show them: of each figure its title, how to read it, its value for each group."""

    title: str
    groups: tuple[str, ...]
    rows: list[tuple[str, str, tuple[str, ...]]]
    explanation: str


def judgement(noun: str) -> Judgement | None:
    """The figures of stories.json; None where none were drawn. `noun`: what a text of the corpus is called."""
    figures = StoryFigures.read()
    groups = {name: group.model_dump() for name, group in figures.groups.items()}
    if not groups:
        return None
    texts = "documents" if noun == "document" else "stories"
    rows = [
        (
            title.format(texts=texts),
            reading.format(noun=noun, texts=texts),
            tuple(_shown(form, group[key]) for group in groups.values()),
        )
        for key, (title, form, reading) in _MEASURES.items()
    ]
    explanation = (
        f"Drawn at temperature 1 from the whole vocabulary, so that runs compare: {texts} without a prompt, and after "
        f"the beginning of a validation {noun}, of which the measures leave that out. Real ones are of the validation "
        "set, cut at the same length. The nearer a figure is to the real one, the better: fewer new words and more "
        f"repetition than real {texts} have are no merit. Compared with {figures.train_tokens or 0:,} training tokens."
    )
    return Judgement(f"The {texts}, judged", tuple(groups), rows, explanation)


def judged_stories(noun: str) -> list[str]:
    """The figures as Markdown; nothing where none were drawn. `noun`: what a text of the corpus is called."""
    found = judgement(noun)
    if found is None:
        return []
    rows = [(title, *values) for title, _, values in found.rows]
    return [f"### {found.title}", table(("", *found.groups), rows, align=str.rjust), found.explanation]


def _shown(form: str, value: float | None) -> str:
    return "–" if value is None else form.format(value)
