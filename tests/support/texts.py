"""Stories of any text, for hypothesis."""

from hypothesis import strategies as st

from tinystories.common.special_tokens import END_OF_TEXT

STORY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: END_OF_TEXT not in text)
STORIES = st.lists(STORY, min_size=1)
