"""The weights of a checkpoint as arrays, read without PyTorch, which exporting and serving do not need."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from tinystories.common.errors import UserError, shorten
from tinystories.common.files import checksum
from tinystories.common.params import ModelConfig
from tinystories.common.reading import read_json
from tinystories.model.stock_config import StockConfig

WEIGHTS = "model.safetensors"
SHARDS = "model.safetensors.index.json"  # in its place where transformers has cut the weights into several files
_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # numpy has no bf16

Weights = dict[str, npt.NDArray[np.float32]]


def read_weights(directory: Path, config: StockConfig) -> Weights:
    """Read the tensors of a checkpoint directory as fp32, by the names that Qwen3 has for them.

    Errors: UserError where a file is missing or damaged, or the tensors are not those of config.json. What
    `save_checkpoint` wrote is checked in every bit.
    """
    own = config.checksum is not None
    again = "run the stage train again" if own else "save the model again"
    path = directory / WEIGHTS
    try:
        files = [path] if own or not (directory / SHARDS).is_file() else _shards(directory)
        found = []
        for path in files:
            found.append(_header(path))
        if not _fit(found, config, own):
            raise UserError(f"{path}: its tensors are not those of config.json; {again}")
        if own and checksum(config.values(), path) != config.checksum:
            raise UserError(f"{path}: altered since train wrote it, or config.json is: the checksum differs; {again}")
        return {name: array for path in files for name, array in _arrays(path)}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage train") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not readable ({shorten(str(error), 200)}); {again}") from None


def tensor_shapes(config: ModelConfig, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each of Qwen3's tensors. The output is tied, so the embedding stands there once."""
    size, mlp, head = config.embedding_size, config.mlp_size, config.head_size
    layer = {
        "input_layernorm": (size,),
        **{f"self_attn.{name}_proj": (size, size) for name in "qkvo"},
        "self_attn.q_norm": (head,),
        "self_attn.k_norm": (head,),
        "post_attention_layernorm": (size,),
        "mlp.gate_proj": (mlp, size),
        "mlp.up_proj": (mlp, size),
        "mlp.down_proj": (size, mlp),
    }
    return {
        "model.embed_tokens.weight": (vocab_size, size),
        "model.norm.weight": (size,),
        **{f"model.layers.{n}.{name}.weight": shape for n in range(config.layers) for name, shape in layer.items()},
    }


def _shards(directory: Path) -> list[Path]:
    """List the files among which transformers has divided the weights. Errors: UserError."""
    shards = read_json(directory / SHARDS).get("weight_map")
    names: list[Any] = list(shards.values()) if isinstance(shards, dict) else [None]
    if not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise UserError(f"{directory / SHARDS}: its weight_map does not name files of this directory")
    return [directory / name for name in sorted(set(names))]


def _header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Read data type and shape of each tensor. Errors: SafetensorError, OSError."""
    with safe_open(path, framework="np") as file:
        parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in parts.items()}


def _fit(found: list[dict[str, tuple[str, tuple[int, ...]]]], config: StockConfig, own: bool) -> bool:
    """Whether the headers name the tensors of such a model, each once."""
    parts = [(name, shape) for header in found for name, (_, shape) in header.items()]
    types = {dtype for header in found for dtype, _ in header.values()}
    # The sizes first: a config.json that is wrong may say any number of layers.
    if sum(math.prod(shape) for _, shape in parts) != config.model.parameter_count(config.vocab_size):
        return False
    shapes = tensor_shapes(config.model, config.vocab_size)
    return dict(parts) == shapes and len(parts) == len(shapes) and types <= ({"F32"} if own else _TYPES.keys())


def _arrays(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the tensors of a file, whose header has been checked, as fp32."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    data = np.memmap(path, np.uint8, mode="c", offset=8 + size)  # a copy is made of what is written to
    for name, part in header.items():
        if name != "__metadata__":
            array = np.asarray(data[slice(*part["data_offsets"])]).view(_TYPES[part["dtype"]]).reshape(part["shape"])
            if part["dtype"] == "BF16":  # the first half of fp32
                array = (array.astype(np.uint32) << 16).view(np.float32)
            yield name, array.astype(np.float32, copy=False)
