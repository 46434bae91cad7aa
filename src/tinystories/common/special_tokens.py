"""The one special token: it begins a token file, follows each story, and ends what the model generates."""

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 0  # special tokens come first in the vocabulary

# A tokenizer.json with this post-processor puts it before each text, as it is in a token file.
_FIRST = {"SpecialToken": {"id": END_OF_TEXT, "type_id": 0}}
_TEXTS = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
PUTS_END_OF_TEXT_FIRST = {
    "type": "TemplateProcessing",
    "single": [_FIRST, _TEXTS[0]],
    "pair": [_FIRST, *_TEXTS],
    "special_tokens": {END_OF_TEXT: {"id": END_OF_TEXT, "ids": [END_OF_TEXT_ID], "tokens": [END_OF_TEXT]}},
}
