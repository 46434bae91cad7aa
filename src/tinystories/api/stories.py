"""Drawing stories: several texts side by side, each growing step by step."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass

from tokenizers import Tokenizer

from tinystories.api.sampling import Sampling, check_length, check_seeds
from tinystories.api.text import StreamDecoder, encode_end
from tinystories.common.special_tokens import END_OF_TEXT_ID
from tinystories.inference.generate import generate_steps
from tinystories.model.cpu_kernels import compile_kernels
from tinystories.model.gpt import GPT

# Compiling takes as long as some 800 tokens without the kernels, and most stories end after half of their length.
COMPILE_FROM_TOKENS = 1_600
_GREEDY_BELOW = 1e-6  # temperature; 0 means it


@dataclass
class Story:
    """A text that is drawn: `text` continues `prompt`, and `ended` says that the story has come to its end."""

    prompt: str
    seed: int
    text: str = ""
    tokens: int = 0
    ended: bool = False
    finished: bool = False  # it grows no more: it has ended, or is as long as was wanted


def draw_stories(
    gpt: GPT, tokenizer: Tokenizer, prompt: str, seeds: Sequence[int], length: int, sampling: Sampling
) -> Iterator[list[Story]]:
    """Draw a story for each seed; yield all of them after each step, as far as they are. Errors: UserError."""
    check_length(length)
    check_seeds(seeds)
    start = [END_OF_TEXT_ID, *encode_end(tokenizer, prompt, gpt.config.context_length)]
    compile_for(gpt, len(seeds) * length, COMPILE_FROM_TOKENS)
    greedy = sampling.temperature < _GREEDY_BELOW
    steps = generate_steps(
        gpt,
        [start] * len(seeds),
        max_new_tokens=length,
        temperature=sampling.temperature,
        top_k=1 if greedy else sampling.top_k,
        top_p=sampling.top_p if sampling.top_p < 1 else None,
        seeds=seeds,
    )
    stories = [Story(prompt, seed) for seed in seeds]
    decoders = [StreamDecoder(tokenizer) for _ in seeds]
    for step in steps:
        for number, token in step:
            story, decoder = stories[number], decoders[number]
            story.tokens += 1
            story.text += decoder.add(token)
            story.ended = token == END_OF_TEXT_ID
            story.finished = story.ended or story.tokens == length
            if story.finished:
                story.text += decoder.finish()
        yield stories


def compile_for(gpt: GPT, tokens: int, pays_from: int) -> None:
    """Compile the kernels where so much work is ahead that it pays. A warning of it goes to standard error."""
    if tokens >= pays_from:
        with redirect_stdout(sys.stderr):
            compile_kernels(gpt.config.head_size, gpt.compute_dtype)
