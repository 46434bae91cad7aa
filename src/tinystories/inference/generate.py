"""Sampling texts from the model."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from tinystories.common.special_tokens import END_OF_TEXT_ID
from tinystories.inference.decoder import make_decoder
from tinystories.model.gpt import GPT


def generate(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    top_k: int,
    seeds: Sequence[int],
    top_p: float | None = None,
    on_step: Callable[[], None] | None = None,
) -> list[list[int]]:
    """Sample up to `max_new_tokens` tokens after each prompt, of a token or more, or until its story ends.

    The results are without the prompts; the last token is the end-of-text where a story ended. Where a text outgrows
    the context, the model continues with its later half, read again: keys and values computed at other positions are
    of no use. Each prompt has its own seed, so it gets the same tokens alone and in a batch. `on_step` is called after
    each decoding step and may raise.
    """
    new: list[list[int]] = [[] for _ in prompts]
    for step in generate_steps(
        model, prompts, max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, seeds=seeds, top_p=top_p
    ):
        for text, token in step:
            new[text].append(token)
        if on_step:
            on_step()
    return new


@torch.inference_mode()
def generate_steps(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    top_k: int,
    seeds: Sequence[int],
    top_p: float | None = None,
) -> Iterator[list[tuple[int, int]]]:
    """Sample as `generate` does, and yield after each step the number of each unfinished text with its new token."""
    context = model.config.context_length
    # The part of each text that the model sees.
    windows = [list(prompt if len(prompt) <= context else prompt[-truncated_length(context) :]) for prompt in prompts]
    # One number from 0 to 1 decides a token. They are drawn on the CPU: a seed means the same on every device.
    uniforms = torch.empty(len(prompts), max_new_tokens, dtype=torch.float64)
    for row, seed in zip(uniforms, seeds, strict=True):
        row.uniform_(generator=torch.Generator().manual_seed(seed))

    decoder = make_decoder(model, len(prompts))
    texts = list(range(len(prompts)))  # which text is in each of the decoder's rows
    to_prefill = list(range(len(prompts)))  # rows whose window, but for its last token, is not in the cache
    for step in range(max_new_tokens):
        if not texts:
            break
        decoder.prefill(to_prefill, [windows[texts[row]][:-1] for row in to_prefill])
        logits = decoder.decode_step([windows[text][-1] for text in texts], [len(windows[text]) - 1 for text in texts])
        tokens = _sample_next_tokens(logits, temperature, top_k, uniforms[texts, step], top_p)
        yield list(zip(texts, tokens, strict=True))
        for text, token in zip(texts, tokens, strict=True):
            windows[text].append(token)
        for row in reversed([row for row, token in enumerate(tokens) if token == END_OF_TEXT_ID]):
            decoder.copy_row(len(texts) - 1, row)  # the last row fills the gap
            texts[row] = texts[-1]
            texts.pop()
        to_prefill = [row for row, text in enumerate(texts) if len(windows[text]) > context]
        for row in to_prefill:
            del windows[texts[row]][: -truncated_length(context)]


def truncated_length(context: int) -> int:
    """How many tokens are kept, and read again, when the context is full."""
    return max(context // 2, 1)


def _sample_next_tokens(
    logits: Tensor, temperature: float, top_k: int, uniforms: Tensor, top_p: float | None = None
) -> list[int]:
    """A token for each row from its `top_k` likeliest: where its uniform number falls in their cdf.

    With `top_p`, only from the likeliest of those that have this share of their probability together, the one that
    completes it included (nucleus sampling, Holtzman et al. 2020). Shapes: (B, V), (B,) -> (B,).
    """
    if top_k == 1:
        return logits.argmax(dim=-1).tolist()
    values, ids = (part.cpu() for part in logits.float().topk(min(top_k, logits.shape[-1])))
    if top_p is not None:
        shares = torch.softmax(values.double() / temperature, dim=-1)
        values = values.masked_fill(shares.cumsum(dim=-1) - shares >= top_p, -torch.inf)
    # In the order of ids, not of values: two that are almost equal may swap with the rounding of another batch.
    ids, order = ids.sort(dim=-1)
    cdf = torch.softmax(values.double().gather(-1, order) / temperature, dim=-1).cumsum(dim=-1)
    if top_p is not None:
        cdf = cdf / cdf[:, -1:]  # exactly 1 from the last kept token on: none after it can be chosen
    chosen = torch.searchsorted(cdf, uniforms[:, None], right=True).clamp(max=ids.shape[-1] - 1)
    return ids.gather(-1, chosen).flatten().tolist()
