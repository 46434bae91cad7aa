"""Continuing texts with the model."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tinystories.common.special_tokens import END_OF_TEXT_ID
from tinystories.inference.decoder import make_decoder
from tinystories.model.gpt import GPT


@torch.inference_mode()
def generate(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    top_k: int,
    seeds: Sequence[int],
    on_step: Callable[[], None] | None = None,
) -> list[list[int]]:
    """Draw tokens after each prompt, of a token or more, until its story ends or there are `max_new_tokens`.

    The results are without the prompts; the last token is the end-of-text where a story ended. Where a text outgrows
    the context, the model goes on with its later half: the keys and values of what is dropped would be of no use, for
    they were computed at other positions. Each prompt has its own seed, which gives it the same tokens alone as beside
    others. `on_step` is called before each round of tokens and may raise.
    """
    context = model.config.context_length
    # The part of each text that the model sees.
    windows = [list(prompt if len(prompt) <= context else prompt[-_kept(context) :]) for prompt in prompts]
    new: list[list[int]] = [[] for _ in prompts]
    # One number from 0 to 1 decides a token. They are drawn on the CPU: a seed means the same on every device.
    chances = torch.empty(len(prompts), max_new_tokens, dtype=torch.float64)
    for row, seed in zip(chances, seeds, strict=True):
        row.uniform_(generator=torch.Generator().manual_seed(seed))

    decoder = make_decoder(model, len(prompts))
    texts = list(range(len(prompts)))  # which text is in each of the decoder's rows
    unread = list(range(len(prompts)))  # rows whose window it has not read, but for the last token
    for turn in range(max_new_tokens):
        if not texts:
            break
        if on_step:
            on_step()
        decoder.prefill(unread, [windows[texts[row]][:-1] for row in unread])
        logits = decoder.decode_step([windows[text][-1] for text in texts], [len(windows[text]) - 1 for text in texts])
        tokens = _draw(logits, temperature, top_k, chances[texts, turn])
        for text, token in zip(texts, tokens, strict=True):
            new[text].append(token)
            windows[text].append(token)
        for row in reversed([row for row, token in enumerate(tokens) if token == END_OF_TEXT_ID]):
            decoder.copy_row(len(texts) - 1, row)  # the last row fills the gap
            texts[row] = texts[-1]
            texts.pop()
        unread = [row for row, text in enumerate(texts) if len(windows[text]) > context]
        for row in unread:
            del windows[texts[row]][: -_kept(context)]
    return new


def _kept(length: int) -> int:
    """How many of `length` + 1 tokens are read again when the context is full."""
    return max(length // 2, 1)


def _draw(logits: Tensor, temperature: float, top_k: int, chances: Tensor) -> list[int]:
    """A token for each row from its `top_k` likeliest: where its chance falls in their cumulative distribution.

    Shapes: (B, V), (B,) -> (B,).
    """
    if top_k == 1:
        return logits.argmax(dim=-1).tolist()
    values, ids = (part.cpu() for part in logits.float().topk(min(top_k, logits.shape[-1])))
    # In the order of ids, not of values: two that are almost equal may swap with the rounding of another batch.
    ids, order = ids.sort(dim=-1)
    shares = torch.softmax(values.double().gather(-1, order) / temperature, dim=-1).cumsum(dim=-1)
    places = torch.searchsorted(shares, chances[:, None], right=True).clamp(max=ids.shape[-1] - 1)
    return ids.gather(-1, places).flatten().tolist()
