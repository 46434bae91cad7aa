"""Text to tokens and back, for texts that a person gives and reads."""

import codecs

from tokenizers import Tokenizer

from tinystories.common.errors import UserError
from tinystories.common.special_tokens import END_OF_TEXT_ID
from tinystories.tokenization.tokenizer import byte_values

_CHARACTERS_PER_TOKEN = 16  # far more than the average: of an ordinary text, one look at the end is enough


class StreamDecoder:
    """Decodes tokens one by one; a character of several tokens comes with the last of them.

    All pieces together are what the tokenizer decodes at once.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        """Return the text that is complete with this token. The end-of-text has none."""
        if token == END_OF_TEXT_ID:
            return ""
        values = byte_values()
        return self._decoder.decode(bytes(values[letter] for letter in self._tokenizer.id_to_token(token) or ""))

    def finish(self) -> str:
        """Return what stands for a character that was never completed, else nothing."""
        return self._decoder.decode(b"", final=True)


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Encode a text; `<|endoftext|>` in it is that token. Errors: UserError where it is no Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"the text is not UTF-8 at character {error.start + 1}") from None
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def encode_end(tokenizer: Tokenizer, text: str, tokens: int) -> list[int]:
    """Encode the end of a text: all of it where that is fewer than `tokens` tokens, else at least the last `tokens`.

    Of a long text only the end is encoded. It begins where one word ends and the next one's space comes, so that the
    tokens are those of the whole text. Only where no such place is near, the first of them may be others.
    """
    length = tokens * _CHARACTERS_PER_TOKEN
    while length < len(text):
        ids = encode(tokenizer, text[_word_end(text, len(text) - length) :])
        if len(ids) >= tokens:
            return ids
        length *= 4
    return encode(tokenizer, text)


def _word_end(text: str, start: int) -> int:
    """The first place from `start`, but not far from it, where a letter, one space and a letter stand; else `start`."""
    limit = start + (len(text) - start) // 2
    space = text.find(" ", max(start, 1), limit)
    while space >= 0:
        if text[space - 1].isalnum() and text[space + 1].isalnum():
            return space
        space = text.find(" ", space + 1, limit)
    return start


def show(text: str) -> str:
    """Escape the control characters of a text for a terminal, but for line ends and tabs: none moves the cursor."""
    return "".join(
        letter if letter in "\n\t" or not (ord(letter) < 32 or 127 <= ord(letter) < 160) else repr(letter)[1:-1]
        for letter in text
    )
