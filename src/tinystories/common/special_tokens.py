"""The one special token: it begins a token file, follows each story, and ends what the model generates."""

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 0  # special tokens come first in the vocabulary
