"""A small GPT, trained on TinyStories by a pipeline that anyone can repeat."""
