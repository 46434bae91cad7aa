"""What a checkpoint says of its model: config.json, as `transformers`' stock class Qwen3 has it, and how to use it.

All without PyTorch, which exporting and serving do not need.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinystories.common.errors import UserError, shorten
from tinystories.common.params import ModelConfig
from tinystories.common.reading import read_json
from tinystories.common.special_tokens import END_OF_TEXT, END_OF_TEXT_ID

NORM_EPSILON = 1e-6  # of every RMSNorm of the model
ROPE_THETA = 10_000.0
CHECKSUM = "checksum"  # in config.json, of weights and config; others skip the keys that they do not know
# How others sample where their users say nothing, as params.yaml is committed. The stage train does not depend on
# `sample`, whose values are for the report.
SAMPLING = {"do_sample": True, "temperature": 0.8, "top_k": 40}
# A chat is one text that goes on: no roles, nothing between the messages.
CHAT_TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
# What is an answer: for models of the type qwen3, `transformers serve` would otherwise begin it with the whole chat.
RESPONSE_TEMPLATE = {
    "defaults": {"role": "assistant"},
    "start_anchor_pattern": "(?s).+",
    "fields": {"content": {"content": "text", "close": END_OF_TEXT}},
}

# What transformers writes into every config.json. It keeps a checksum of ours, which then holds no longer.
_OTHERS_MARK = "transformers_version"
# Of what others wrote: these may have any value, because the class or the weights themselves say as much ...
_FREE = {"architectures", "attention_dropout", "dtype", "bos_token_id", "eos_token_id"}
# ... and these have these values where they are missing.
_DEFAULTS = {"attention_bias": False, "use_sliding_window": False, "rope_scaling": None}


@dataclass(frozen=True)
class StockConfig:
    """What config.json says. `checksum` is that of `save_checkpoint`, or None where others wrote the checkpoint."""

    model: ModelConfig
    vocab_size: int
    checksum: str | None

    def values(self) -> dict[str, Any]:
        """Return config.json as `save_checkpoint` writes it, without the checksum."""
        return stock_values(self.model, self.vocab_size)


def read_stock_config(path: Path) -> StockConfig:
    """Read config.json. Errors: UserError where it is missing, damaged, or of a model that is not ours."""
    stored = read_json(path)
    others = CHECKSUM not in stored or _OTHERS_MARK in stored
    try:
        model = ModelConfig(
            context_length=stored["max_position_embeddings"],
            embedding_size=stored["hidden_size"],
            layers=stored["num_hidden_layers"],
            heads=stored["num_attention_heads"],
        )
        vocab_size = stored["vocab_size"]
        expected = stock_values(model, vocab_size)
        differing = _differing_by_others(stored, expected) if others else _differing(stored, expected)
        if type(vocab_size) is not int or vocab_size < 1:
            differing.add("vocab_size")
    except KeyError as error:
        differing = {str(error.args[0])}
    except ValueError:
        differing = {"the model's shape"}
    if differing and others and stored.get("model_type") != "qwen3":
        found = shorten(repr(stored.get("model_type")))
        raise UserError(f"{path}: not a model of the kind that train makes (model_type is {found}, expected 'qwen3')")
    if differing:
        wrong = "not a model of the kind that train makes" if others else "not one that train writes"
        raise UserError(f"{path}: {wrong} ({', '.join(sorted(differing))})")
    return StockConfig(model, vocab_size, None if others else str(stored[CHECKSUM]))


def _differing(stored: dict[str, Any], expected: dict[str, Any]) -> set[str]:
    return {key for key, value in expected.items() if stored.get(key) != value}


def _differing_by_others(stored: dict[str, Any], expected: dict[str, Any]) -> set[str]:
    """Find the keys by which the model means another function of tokens than ours of the same sizes."""
    theta = stored.get("rope_theta")
    theirs = {**_DEFAULTS, "rope_parameters": {"rope_type": "default", "rope_theta": theta}, **stored}
    ours = {key: value for key, value in expected.items() if key not in _FREE}
    ours |= {"rope_scaling": None, "rope_theta": ROPE_THETA if "rope_theta" in stored else None}
    differing = {key for key, value in ours.items() if theirs.get(key) != value}
    if set(stored.get("layer_types") or []) - {"full_attention"}:
        differing.add("layer_types")
    return differing


def stock_values(model: ModelConfig, vocab_size: int) -> dict[str, Any]:
    """Return config.json of such a model."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": vocab_size,
        "hidden_size": model.embedding_size,
        "intermediate_size": model.mlp_size,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.heads,
        "head_dim": model.head_size,
        "hidden_act": "silu",
        "max_position_embeddings": model.context_length,
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
