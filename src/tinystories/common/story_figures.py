"""stories.json: the figures of the stories that the model writes, as one more type of the files between the stages."""

from tinystories.common import paths
from tinystories.common.artifacts import Count, Figure, JsonFile, Values


class GroupFigures(Values):
    """Figures of some stories, None where there is nothing to measure.

    `ended`: share that end within the limit and with a sentence. `words`: in a story. `new_words`: share of the words
    that the training text does not have. `seq_rep_4`: share of a story's 4-grams that it had before. `distinct_3`:
    different / all 3-grams. `gzip_ratio`: bytes / compressed bytes. `new_4grams`: share that the training text does not
    have. `longest_copy_p50`, `_p95`: percentiles of the words in a row that stand in the training text too. `rouge_2`:
    precision against the nearest training story. `names_kept`, `pronouns_fit`: share of the stories with known names.
    """

    stories: Count
    ended: Figure | None
    words: Figure | None
    new_words: Figure | None
    seq_rep_4: Figure | None
    distinct_3: Figure | None
    gzip_ratio: Figure | None
    new_4grams: Figure | None
    longest_copy_p50: Figure | None
    longest_copy_p95: Figure | None
    rouge_2: Figure | None
    names_kept: Figure | None
    pronouns_fit: Figure | None


class StoryFigures(JsonFile):
    """stories.json: figures of stories drawn without a prompt, of those after a real beginning, of real ones.

    `train_tokens`: of the training text, how many were compared with. All are None where `evaluate.stories` is 0.
    """

    PATH, STAGE = paths.STORIES, "evaluate"

    train_tokens: Count | None = None
    unprompted: GroupFigures | None = None
    prompted: GroupFigures | None = None
    real: GroupFigures | None = None

    @property
    def groups(self) -> dict[str, GroupFigures]:
        """The groups by name; empty where none was drawn."""
        found = {"unprompted": self.unprompted, "prompted": self.prompted, "real": self.real}
        return {name: group for name, group in found.items() if group is not None}
