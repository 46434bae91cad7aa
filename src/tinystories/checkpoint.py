"""The checkpoint directory: what the rest of the world loads, and what `evaluate` loads back.

It is the layout of `transformers`' stock class `Qwen3ForCausalLM`: config.json, model.safetensors and the tokenizer.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tinystories.attention import NORM_EPSILON, ROPE_THETA
from tinystories.errors import UserError
from tinystories.files import read_json, write_json
from tinystories.model import GPT
from tinystories.params import Model as Shape
from tinystories.tokenizer import END_OF_TEXT, END_OF_TEXT_ID

WEIGHTS = "model.safetensors"

# Our stacked weights, and the names that one layer's part of each has there.
_STACKED = {
    "norm_attention": ("input_layernorm",),
    "attention_in": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "norm_query": ("self_attn.q_norm",),
    "norm_key": ("self_attn.k_norm",),
    "attention_out": ("self_attn.o_proj",),
    "norm_feed_forward": ("post_attention_layernorm",),
    "feed_forward_in": ("mlp.gate_proj", "mlp.up_proj"),
    "feed_forward_out": ("mlp.down_proj",),
}
_SINGLE = {"embedding": "model.embed_tokens.weight", "norm_final": "model.norm.weight"}


def save_checkpoint(model: GPT, tokenizer: Path, directory: Path) -> None:
    """Write the checkpoint directory, weights in fp32, whole or not at all; what stood there before goes."""
    part = directory.with_name(f".{directory.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_file(_to_stock_names(model), part / WEIGHTS, metadata={"format": "pt"})
    write_json(part / "config.json", _config(model))
    write_json(part / "generation_config.json", {"bos_token_id": END_OF_TEXT_ID, "eos_token_id": END_OF_TEXT_ID})
    shutil.copyfile(tokenizer, part / "tokenizer.json")
    write_json(
        part / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": END_OF_TEXT,
            "eos_token": END_OF_TEXT,
            "model_max_length": model.shape.context_length,
            "clean_up_tokenization_spaces": False,
        },
    )
    shutil.rmtree(directory, ignore_errors=True)
    part.rename(directory)


def load_checkpoint(directory: Path) -> GPT:
    """The model of a checkpoint directory, fp32, on the CPU.

    Errors: UserError where a file is missing or damaged, or weights and config.json do not agree.
    """
    config = read_json(directory / "config.json")
    try:
        shape = Shape(
            context_length=config["max_position_embeddings"],
            embedding_size=config["hidden_size"],
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
        )
        model = GPT(shape, config["vocab_size"])
        differing = {key for key, value in _config(model).items() if config.get(key) != value}
    except (KeyError, TypeError, ValueError, RuntimeError):
        differing = {"the model's shape"}
    if differing:
        raise UserError(f"{directory / 'config.json'}: not one that train writes ({', '.join(sorted(differing))})")
    path = directory / WEIGHTS
    try:
        weights = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage train") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not readable ({error}); run the stage train again") from None
    expected = {name: tensor.shape for name, tensor in _to_stock_names(model).items()}
    if {name: tensor.shape for name, tensor in weights.items()} != expected:
        raise UserError(f"{path}: its tensors are not those of config.json; run the stage train again")
    model.load_state_dict(_from_stock_names(weights, model))
    return model


def _config(model: GPT) -> dict[str, Any]:
    shape = model.shape
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": model.vocab_size,
        "hidden_size": shape.embedding_size,
        "intermediate_size": shape.feed_forward_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.head_size,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context_length,
        "rms_norm_eps": NORM_EPSILON,
        "rope_theta": ROPE_THETA,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA},
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "bos_token_id": END_OF_TEXT_ID,
        "eos_token_id": END_OF_TEXT_ID,
        "dtype": "float32",
    }


def _to_stock_names(model: GPT) -> dict[str, Tensor]:
    """Qwen3's tensors by name, fp32 on the CPU. The output is tied, so the embedding stands there once."""
    ours = {name: tensor.detach().float().cpu() for name, tensor in model.state_dict().items()}
    stock = {theirs: ours[name].clone() for name, theirs in _SINGLE.items()}
    for name, parts in _STACKED.items():
        for layer, weight in enumerate(ours[name]):
            pieces = weight if len(parts) > 1 else weight[None]
            for part, piece in zip(parts, pieces, strict=True):
                stock[f"model.layers.{layer}.{part}.weight"] = piece.clone()
    return stock


def _from_stock_names(stock: dict[str, Tensor], model: GPT) -> dict[str, Tensor]:
    ours = {name: stock[theirs] for name, theirs in _SINGLE.items()}
    for name, parts in _STACKED.items():
        stacked = [
            torch.stack([stock[f"model.layers.{layer}.{part}.weight"] for part in parts])
            for layer in range(model.shape.layers)
        ]
        ours[name] = torch.stack(stacked).view_as(model.state_dict()[name])
    return ours
