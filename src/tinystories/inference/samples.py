"""Samples as Markdown: prompts and continuations, apart from each other."""

from collections.abc import Callable

from tokenizers import Tokenizer

from tinystories.common.console import plural
from tinystories.common.params import Sample
from tinystories.common.special_tokens import END_OF_TEXT_ID
from tinystories.inference.generate import generate
from tinystories.model.gpt import GPT


def render_samples(
    model: GPT, tokenizer: Tokenizer, sample: Sample, seed: int, title: str, on_step: Callable[[], None] | None = None
) -> str:
    """Sample a continuation of each prompt and a story without one. The same seed samples with the same numbers."""
    prompts = [*sample.prompts, ""]
    continuations = generate(
        model,
        [[END_OF_TEXT_ID, *tokenizer.encode(prompt, add_special_tokens=False).ids] for prompt in prompts],
        max_new_tokens=sample.max_new_tokens,
        temperature=sample.temperature,
        top_k=sample.top_k,
        seeds=[(seed + number) % 2**63 for number in range(1, len(prompts) + 1)],
        on_step=on_step,
    )
    parts = [f"# {title}", f"top-k {sample.top_k}, temperature {sample.temperature:g}, seed {seed}"]
    for number, (prompt, new) in enumerate(zip(prompts, continuations, strict=True), start=1):
        if prompt:
            parts += [f"## Prompt {number}", "**Prompt**", _quote(prompt), "**Continuation**"]
        else:
            parts += ["## Unprompted sample", "**Continuation**"]
        text, ended = tokenizer.decode(new), new[-1] == END_OF_TEXT_ID
        if ended and not text.strip():
            parts.append("(the story ended at once)")
        else:
            cut = f"(cut at {plural(sample.max_new_tokens, 'token')})"
            parts += [_quote(text), "(ended where the story ended)" if ended else cut]
    return "\n\n".join(parts) + "\n"


def _quote(text: str) -> str:
    lines = text.strip("\n").split("\n")
    return "\n".join(f"> {line}".rstrip() for line in lines)
