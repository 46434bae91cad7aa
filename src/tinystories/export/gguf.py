"""GGUF: a checkpoint as one file for llama.cpp and what is built on it. Without PyTorch.

llama.cpp's own converter knows a tokenizer by the hash of the ids of a test text, so it refuses every vocabulary that
is not on its list; what it would write is simple.
"""

from contextlib import closing
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from tinystories.common.errors import UserError
from tinystories.common.files import atomic_write
from tinystories.common.reading import read_json
from tinystories.common.special_tokens import END_OF_TEXT_ID
from tinystories.model.stock_config import (
    CHAT_TEMPLATE,
    NORM_EPSILON,
    ROPE_THETA,
    SAMPLING,
    StockConfig,
    read_stock_config,
)
from tinystories.model.stored_weights import Weights, read_weights
from tinystories.tokenization.tokenizer import load_tokenizer_of

WeightType = Literal["f16", "f32", "q8_0"]
WEIGHT_TYPES: tuple[WeightType, ...] = get_args(WeightType)
Q8_0_BLOCK = 32  # numbers of a row that share a scale

_SINGLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def export_gguf(checkpoint: Path, target: Path, weight_type: WeightType = "f16") -> None:
    """Write the model of a checkpoint directory as one GGUF file, whole or not at all.

    f16 is exact to three digits, f32 in every bit, q8_0 has a byte for each weight; norms are always f32.
    Errors: UserError where the extra `export` is not installed, the checkpoint is damaged, or q8_0 cannot hold it.
    """
    try:
        from gguf import GGUFWriter
    except ImportError:
        raise UserError("gguf is not installed; pip install -c constraints.txt -e '.[export]'") from None
    config = read_stock_config(checkpoint / "config.json")
    size = config.model.embedding_size
    if weight_type == "q8_0" and size % Q8_0_BLOCK:
        raise UserError(
            f"{checkpoint}: an embedding of {size} numbers, but q8_0 holds rows of multiples of {Q8_0_BLOCK}; take f16"
        )
    vocabulary, merges = _read_vocabulary(checkpoint, config.vocab_size)
    weights = read_weights(checkpoint, config)
    with atomic_write(target) as file, closing(GGUFWriter(file.name, "qwen3")) as writer:
        _add_sizes(writer, config, weight_type)
        _add_tokenizer(writer, vocabulary, merges)
        _add_weights(writer, weights, weight_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()


def _read_vocabulary(checkpoint: Path, vocab_size: int) -> tuple[list[str], list[str]]:
    """Read the entries by number, and the merges by rank. Errors: UserError."""
    load_tokenizer_of(checkpoint, vocab_size)  # checks its form and size
    model = read_json(checkpoint / "tokenizer.json")["model"]
    vocabulary = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return vocabulary, [" ".join(pair) for pair in model["merges"]]


def _add_sizes(writer: Any, config: StockConfig, weight_type: WeightType) -> None:
    from gguf import GGML_QUANT_VERSION, LlamaFileType

    model = config.model
    kind = {"f16": LlamaFileType.MOSTLY_F16, "f32": LlamaFileType.ALL_F32, "q8_0": LlamaFileType.MOSTLY_Q8_0}
    writer.add_name("TinyStories GPT")
    writer.add_file_type(kind[weight_type])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(model.context_length)
    writer.add_embedding_length(model.embedding_size)
    writer.add_block_count(model.layers)
    writer.add_feed_forward_length(model.mlp_size)
    writer.add_head_count(model.heads)
    writer.add_head_count_kv(model.heads)
    writer.add_key_length(model.head_size)
    writer.add_value_length(model.head_size)
    writer.add_layer_norm_rms_eps(NORM_EPSILON)
    writer.add_rope_freq_base(ROPE_THETA)
    # What llama.cpp does where a request says nothing.
    writer.add_sampling_temp(SAMPLING["temperature"])
    writer.add_sampling_top_k(SAMPLING["top_k"])
    writer.add_sampling_top_p(1.0)
    writer.add_sampling_min_p(0.0)


def _add_tokenizer(writer: Any, vocabulary: list[str], merges: list[str]) -> None:
    from gguf import TokenType

    types = [TokenType.NORMAL] * len(vocabulary)
    types[END_OF_TEXT_ID] = TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(END_OF_TEXT_ID)
    writer.add_eos_token_id(END_OF_TEXT_ID)
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)


def _add_weights(writer: Any, weights: Weights, weight_type: WeightType) -> None:
    """Add every tensor under llama.cpp's name. The output is tied: it takes the embedding where there is no other."""
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    kind = GGMLQuantizationType[weight_type.upper()]
    for name, array in weights.items():
        if array.ndim == 1 or weight_type == "f32":
            writer.add_tensor(_ggml_name(name), array)
        else:
            data: npt.NDArray[np.generic] = quantize(array, kind)
            writer.add_tensor(_ggml_name(name), data, raw_dtype=kind)


def _ggml_name(name: str) -> str:
    """llama.cpp's name of one of Qwen3's tensors."""
    stem = name.removesuffix(".weight")
    if stem in _SINGLE:
        return f"{_SINGLE[stem]}.weight"
    layer, part = stem.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{_LAYER[part]}.weight"
