"""Stage `tokenize_to_memmap`: write both splits as uint16 token files, and meta.json that says what they hold."""

import sys
from pathlib import Path

# This copy's src/ comes first: `dvc exp run --temp` and `--queue` run in a copy, an editable installation is elsewhere.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from tinystories.common import paths
from tinystories.common.params import Params
from tinystories.common.stage import run_stage


def main(params: Params) -> None:
    from tinystories.common.files import sha256_of
    from tinystories.corpus.stories import read_stories
    from tinystories.encoding.writer import write_meta, write_tokens
    from tinystories.tokenization.token_files import TokenMeta
    from tinystories.tokenization.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(paths.TOKENIZER)
    train, valid = (
        write_tokens(read_stories(text), tokenizer, tokens, text.stat().st_size)
        for text, tokens in ((paths.RAW_TRAIN, paths.TOKENS_TRAIN), (paths.RAW_VALID, paths.TOKENS_VALID))
    )
    meta = TokenMeta(tokenizer.get_vocab_size(), sha256_of(paths.TOKENIZER), train, valid)
    write_meta(meta, paths.TOKENS_META)


if __name__ == "__main__":
    run_stage(main)
