"""The logits after some texts, in the two ways that must agree: read at once by the model, or on by a decoder."""

import torch
from torch import Tensor

from tinystories.inference.cpu_decoder import CpuDecoder
from tinystories.inference.decoder import Decoder
from tinystories.model.gpt import GPT


def read_whole(model: GPT, texts: list[list[int]]) -> Tensor:
    """The logits after each text, read alone and at once. Shape: (texts, V)."""
    return torch.stack([model(torch.tensor([text]))[0, -1] for text in texts])


def read_on(decoder: Decoder | CpuDecoder, texts: list[list[int]]) -> Tensor:
    """The same of a decoder that has read all but each text's last token."""
    return decoder.decode_step([text[-1] for text in texts], [len(text) - 1 for text in texts])
