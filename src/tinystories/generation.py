"""Continuing a text with the model."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tinystories.model import GPT, Cache
from tinystories.scoring import do_nothing
from tinystories.tokenizer import END_OF_TEXT_ID


@torch.inference_mode()
def generate(
    model: GPT,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float,
    top_k: int,
    seed: int,
    cached: bool = True,
    check: Callable[[], None] = do_nothing,
) -> list[int]:
    """Draw tokens after `prompt` until the story ends or there are `max_new_tokens`.

    The result is without the prompt; its last token is the end-of-text where the story ended. Where the text outgrows
    the context, the model goes on with its later half: the keys and values of what is dropped would be of no use, for
    they were computed at other positions. `cached=False` computes every step from the text alone, to test the cache.
    The same seed gives the same tokens. `check` is called before each token and may raise.
    """
    # On the CPU, so that a seed means the same on every device.
    generator = torch.Generator().manual_seed(seed)
    length = model.shape.context_length
    text = list(prompt)
    window = text[-length:] if len(text) <= length else text[-_kept(length) :]
    cache = Cache(model.shape.layers) if cached else None
    unread = window
    new: list[int] = []
    while len(new) < max_new_tokens:
        check()
        ids = torch.tensor([unread if cached else window], device=model.embedding.device)
        token = _draw(model(ids, cache)[0, -1], temperature, top_k, generator)
        new.append(token)
        if token == END_OF_TEXT_ID:
            break
        window = [*window, token]
        unread = [token]
        if len(window) > length:
            unread = window = window[-_kept(length) :]
            cache = Cache(model.shape.layers) if cached else None
    return new


def _kept(length: int) -> int:
    """How many of `length` + 1 tokens are read again when the context is full."""
    return max(length // 2, 1)


def _draw(logits: Tensor, temperature: float, top_k: int, generator: torch.Generator) -> int:
    """One token from the `top_k` likeliest. `logits` has shape (V,)."""
    values, ids = logits.float().cpu().topk(min(top_k, logits.numel()))
    if top_k == 1:
        return int(ids[0])
    probabilities = torch.softmax(values / temperature, dim=0)
    return int(ids[torch.multinomial(probabilities, 1, generator=generator)])
