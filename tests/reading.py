"""The logits after some texts, in the two ways that must agree: read at once by the model, or on by a decoder."""

import torch
from torch import Tensor

from tinystories.decoder import Decoder
from tinystories.fast_decoder import FastDecoder
from tinystories.model import GPT


def read_whole(model: GPT, texts: list[list[int]]) -> Tensor:
    """The logits after each text, read alone and at once. Shape: (texts, V)."""
    return torch.stack([model(torch.tensor([text]))[0, -1] for text in texts])


def read_on(decoder: Decoder | FastDecoder, texts: list[list[int]]) -> Tensor:
    """The same of a decoder that has read all but each text's last token."""
    return decoder.next_logits([text[-1] for text in texts], [len(text) - 1 for text in texts])
