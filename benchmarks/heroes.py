"""How many generated stories keep their hero's name to the end, and give girls girls' names, at several temperatures.

    make quickstart; python -m benchmarks.heroes [CHECKPOINT]       a directory; else models/best

For models of the project's own stories: it knows which names are heroes', and each story has one. The pronouns of a
story fit where for each `he` and `she` somebody of that sex is in it (text_measures.py).
"""

import re
import sys
from collections.abc import Collection
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks.results import Result, table
from tinystories.common.errors import UserError
from tinystories.common.special_tokens import END_OF_TEXT_ID
from tinystories.evaluation.text_measures import kept_names, mean, pronouns_fit, share
from tinystories.inference.generate import generate
from tinystories.model.checkpoint import load_checkpoint
from tinystories.sources.storygen.names import BOYS, FRIENDS, GIRLS, HEROES

STORIES = 200
AT_ONCE = 50
LENGTH = 511  # tokens, at most
SAMPLING = ((0.6, 40), (0.8, 40), (1.0, None))  # temperature, top-k; the last is the one that `evaluate` judges by
# As in "a kind boy named Tom", "a girl in the town of Oakham. Her name was Lily" and "Priya, a tidy girl".
NAMED_AFTER = re.compile(r"\b(girl|boy)\b(?: named|[^.]*\. (?:Her|His) name was) ([A-Z][a-z]+)")
NAMED_BEFORE = re.compile(r"\b([A-Z][a-z]+), an? [a-z]+ (girl|boy)\b")


def kept_hero(text: str) -> bool:
    """Whether one hero's name is in a story, and no second."""
    return len(set(re.findall(r"[A-Z][a-z]+", text)) & set(HEROES)) == 1


def sexes_fit(text: str, names: Collection[str]) -> list[bool]:
    """Of each girl and boy that a story introduces by one of `names`: whether it is a girl's or a boy's name."""
    people = [(name, sex) for sex, name in NAMED_AFTER.findall(text)] + NAMED_BEFORE.findall(text)
    return [name in (GIRLS if sex == "girl" else BOYS) for name, sex in people if name in names]


def measure(directory: Path) -> Result:
    """Draw unprompted stories from a checkpoint, with the same seeds for each way of sampling.

    Errors: UserError where there is no checkpoint.
    """
    model = load_checkpoint(directory)
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    rows = []
    for temperature, top_k in SAMPLING:
        drawn = [
            tokens
            for first in range(0, STORIES, AT_ONCE)
            for tokens in generate(
                model,
                [[END_OF_TEXT_ID]] * AT_ONCE,
                max_new_tokens=LENGTH,
                temperature=temperature,
                top_k=top_k or model.vocab_size,
                seeds=range(first, first + AT_ONCE),
            )
        ]
        texts = [tokenizer.decode(tokens) for tokens in drawn]
        heroes, fit = [kept_hero(text) for text in texts], [pronouns_fit(text) for text in texts]
        names = [kept_names(text, True) for text in texts]
        figures = {
            "hero's name": share(heroes),
            "and pronouns": share(hero and it != 0 for hero, it in zip(heroes, fit, strict=True)),
            "all names": share(kept == 1 for kept in names),
            "names": mean(names),
            "hero's sex": share(fit for text in texts for fit in sexes_fit(text, HEROES)),
            "friend's sex": share(fit for text in texts for fit in sexes_fit(text, FRIENDS)),
        }
        shown = {name: f"{figure:.1%}" if figure is not None else "-" for name, figure in figures.items()}
        rows.append({"temperature": temperature, "top-k": top_k or "all", **shown})
    notes = [
        f"{STORIES} unprompted stories each. 'names' is a share of names, the first three are shares of the stories.",
        "'sex': of those introduced as girls and boys, how many have a girl's or a boy's name.",
    ]
    return {"title": "Names that stay", "columns": list(rows[0]), "rows": rows, "notes": notes}


if __name__ == "__main__":
    try:
        print(table(measure(Path(sys.argv[1] if len(sys.argv) > 1 else "models/best"))))
    except UserError as error:
        sys.exit(f"error: {error}")
