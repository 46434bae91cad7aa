"""The judged stories in the report: each figure of the model's beside that of real ones."""

from tinystories.common.story_figures import StoryFigures
from tinystories.reporting.markdown import table

# How each figure is called, and how it is shown.
_ROWS = {
    "stories": ("{noun}", "{:,}"),
    "words": ("words in one", "{:.0f}"),
    "ended": ("ended, and with a sentence", "{:.1%}"),
    "new_words": ("words never seen in training", "{:.2%}"),
    "seq_rep_4": ("seq-rep-4: 4-grams said before", "{:.2%}"),
    "distinct_3": ("distinct-3: different 3-grams", "{:.1%}"),
    "gzip_ratio": ("gzip ratio", "{:.2f}"),
    "new_4grams": ("4-grams new against training", "{:.1%}"),
    "longest_copy_p50": ("longest copied run, words, median", "{:.0f}"),
    "longest_copy_p95": ("longest copied run, words, p95", "{:.0f}"),
    "rouge_2": ("Rouge-2 precision, nearest in training", "{:.3f}"),
    "names_kept": ("names that stay", "{:.1%}"),
    "pronouns_fit": ("pronouns with somebody they fit", "{:.1%}"),
}


def judged_stories(noun: str) -> list[str]:
    """The table and how to read it; nothing where none were drawn. `noun`: what a text of the corpus is called."""
    figures = StoryFigures.read()
    groups = {name: group.model_dump() for name, group in figures.groups.items()}
    if not groups:
        return []
    texts = "documents" if noun == "document" else "stories"
    rows = [
        (title.format(noun=texts), *(_shown(form, group[key]) for group in groups.values()))
        for key, (title, form) in _ROWS.items()
    ]
    return [
        f"### The {texts}, judged",
        table(("", *groups), rows, align=str.rjust),
        f"Drawn at temperature 1 from the whole vocabulary, so that runs compare: {texts} without a prompt, and after "
        f"the beginning of a validation {noun}, of which the measures leave that out. Real ones are of the validation "
        "set, cut at the same length. The nearer a figure is to the real one, the better: fewer new words and more "
        f"repetition than real {texts} have are no merit. Compared with {figures.train_tokens or 0:,} training tokens.",
    ]


def _shown(form: str, value: float | None) -> str:
    return "–" if value is None else form.format(value)
