"""The checkpoint directory: what the rest of the world loads, and what `evaluate` loads back.

It is the layout of `transformers`' stock class `Qwen3ForCausalLM`: config.json, model.safetensors and the tokenizer.
"""

import json
import shutil
from pathlib import Path

import torch
from torch import Tensor

from tinystories.common.files import checksum, copy_file, save_tensors, write_json
from tinystories.common.special_tokens import END_OF_TEXT, END_OF_TEXT_ID, PUTS_END_OF_TEXT_FIRST
from tinystories.model.gpt import GPT
from tinystories.model.stock_config import (
    CHAT_TEMPLATE,
    CHECKSUM,
    RESPONSE_TEMPLATE,
    SAMPLING,
    read_stock_config,
    stock_values,
)
from tinystories.model.stored_weights import WEIGHTS, read_weights

# Our stacked weights, and the names that one layer's part of each has there.
_STACKED = {
    "attn_norm": ("input_layernorm",),
    "qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "q_norm": ("self_attn.q_norm",),
    "k_norm": ("self_attn.k_norm",),
    "o_proj": ("self_attn.o_proj",),
    "mlp_norm": ("post_attention_layernorm",),
    "gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
    "down_proj": ("mlp.down_proj",),
}
_SINGLE = {"embedding": "model.embed_tokens.weight", "final_norm": "model.norm.weight"}


def save_checkpoint(model: GPT, tokenizer: Path, directory: Path) -> None:
    """Write the checkpoint directory, weights in fp32, whole or not at all; what stood there before goes."""
    part = _begin(directory)
    weights = {name: weight.detach().float().cpu().clone() for name, weight in _stock_views(model).items()}
    save_tensors(weights, part / WEIGHTS, metadata={"format": "pt"})
    config = stock_values(model.config, model.vocab_size)
    write_json(part / "config.json", {**config, CHECKSUM: checksum(config, part / WEIGHTS)})
    context = model.config.context_length
    special = {"bos_token_id": END_OF_TEXT_ID, "eos_token_id": END_OF_TEXT_ID, "pad_token_id": END_OF_TEXT_ID}
    write_json(part / "generation_config.json", {**special, **SAMPLING, "max_length": context})
    # The model has seen every story after an end-of-text: others put it there because tokenizer.json says so.
    # Else it is the same file; `matching_tokenizer` knows the two for one.
    values = json.loads(tokenizer.read_text(encoding="utf-8")) | {"truncation": None, "padding": None}
    write_json(part / "tokenizer.json", {**values, "post_processor": PUTS_END_OF_TEXT_FIRST})
    write_json(
        part / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": END_OF_TEXT,
            "eos_token": END_OF_TEXT,
            "pad_token": END_OF_TEXT,
            "padding_side": "left",  # so that the last token of each text in a batch is its own
            "chat_template": CHAT_TEMPLATE,
            "response_template": RESPONSE_TEMPLATE,
            "model_max_length": context,
            "clean_up_tokenization_spaces": False,
        },
    )
    _finish(part, directory)


def copy_checkpoint(source: Path, directory: Path) -> None:
    """Copy a checkpoint directory, whole or not at all; what stood there before goes."""
    part = _begin(directory)
    for path in source.iterdir():
        copy_file(path, part / path.name)
    _finish(part, directory)


def _begin(directory: Path) -> Path:
    """An empty directory to write into, which `_finish` gives its name."""
    part = directory.with_name(f".{directory.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    return part


def _finish(part: Path, directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    part.rename(directory)


def load_checkpoint(directory: Path) -> GPT:
    """The model of a checkpoint directory, fp32, on the CPU.

    Also of one that `transformers` wrote back, after a fine-tuning say: in fp32, bf16 or fp16, in one file or several.
    Errors: UserError where a file is missing or damaged, or weights and config.json do not agree. Of a checkpoint that
    `train` wrote, a single bit is noticed.
    """
    config = read_stock_config(directory / "config.json")
    weights = read_weights(directory, config)
    model = GPT(config.model, config.vocab_size)
    for name, view in _stock_views(model).items():
        view.copy_(torch.from_numpy(weights[name]))
    return model


def _stock_views(model: GPT) -> dict[str, Tensor]:
    """Qwen3's tensors by name, each a view of ours. The output is tied, so the embedding stands there once."""
    ours = model.state_dict()
    stock = {theirs: ours[name] for name, theirs in _SINGLE.items()}
    for name, parts in _STACKED.items():
        for layer, weight in enumerate(ours[name]):
            pieces = weight if len(parts) > 1 else weight[None]
            for part, piece in zip(parts, pieces, strict=True):
                stock[f"model.layers.{layer}.{part}.weight"] = piece
    return stock
