"""The checkpoint directory: what the rest of the world loads, and what `evaluate` loads back.

It is the layout of `transformers`' stock class `Qwen3ForCausalLM`: config.json, model.safetensors and the tokenizer.
"""

import math
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from tinystories.common.errors import UserError, shorten
from tinystories.common.files import checksum, copy_file, save_tensors, write_json
from tinystories.common.params import ModelConfig
from tinystories.common.reading import read_json
from tinystories.common.special_tokens import END_OF_TEXT, END_OF_TEXT_ID
from tinystories.model.gpt import GPT
from tinystories.model.norm import NORM_EPSILON
from tinystories.model.rope import ROPE_THETA

WEIGHTS = "model.safetensors"
CHECKSUM = "checksum"  # in config.json, of weights and config; others skip the keys that they do not know

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
    config = _config(model.config, model.vocab_size)
    write_json(part / "config.json", {**config, CHECKSUM: checksum(config, part / WEIGHTS)})
    write_json(part / "generation_config.json", {"bos_token_id": END_OF_TEXT_ID, "eos_token_id": END_OF_TEXT_ID})
    shutil.copyfile(tokenizer, part / "tokenizer.json")
    write_json(
        part / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": END_OF_TEXT,
            "eos_token": END_OF_TEXT,
            "model_max_length": model.config.context_length,
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

    Errors: UserError where a file is missing or damaged in a single bit, or weights and config.json do not agree.
    """
    path, again = directory / "config.json", "run the stage train again"
    stored = read_json(path)
    try:
        config = ModelConfig(
            context_length=stored["max_position_embeddings"],
            embedding_size=stored["hidden_size"],
            layers=stored["num_hidden_layers"],
            heads=stored["num_attention_heads"],
        )
        vocab_size, total = stored["vocab_size"], stored[CHECKSUM]
        differing = {key for key, value in _config(config, vocab_size).items() if stored.get(key) != value}
        if type(vocab_size) is not int or vocab_size < 1:
            differing.add("vocab_size")
    except KeyError as error:
        differing = {str(error.args[0])}
    except ValueError:
        differing = {"the model's shape"}
    if differing:
        raise UserError(f"{path}: not one that train writes ({', '.join(sorted(differing))})")
    path = directory / WEIGHTS
    try:
        if not _fits(path, config, vocab_size):
            raise UserError(f"{path}: its tensors are not those of config.json; {again}")
        if checksum(_config(config, vocab_size), path) != total:
            raise UserError(f"{path}: altered since train wrote it, or config.json is: the checksum differs; {again}")
        weights = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage train") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not readable ({shorten(str(error), 200)}); {again}") from None
    model = GPT(config, vocab_size)
    for name, view in _stock_views(model).items():
        view.copy_(weights[name])
    return model


def _fits(path: Path, config: ModelConfig, vocab_size: int) -> bool:
    """Whether the header names the tensors of such a model. Errors: SafetensorError, OSError."""
    with safe_open(path, framework="pt") as file:
        parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        found = {name: (part.get_dtype(), part.get_shape()) for name, part in parts.items()}
    # A model as large as config.json says is made only where the file is as large: the header cannot lie about that.
    if sum(math.prod(size) for _, size in found.values()) != config.parameter_count(vocab_size):
        return False
    views = _stock_views(GPT(config, vocab_size))
    return found == {name: ("F32", list(view.shape)) for name, view in views.items()}


def _config(config: ModelConfig, vocab_size: int) -> dict[str, Any]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": vocab_size,
        "hidden_size": config.embedding_size,
        "intermediate_size": config.mlp_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.heads,
        "head_dim": config.head_size,
        "hidden_act": "silu",
        "max_position_embeddings": config.context_length,
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
