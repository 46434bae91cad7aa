"""Other projects' models of about our size, to compare training speed with. No dropout, tied embeddings.

Each is built for a vocabulary and a shape, and gives logits: (B, T) -> (B, T, V). Packages are imported when a model
is built, so that those that are not installed are simply left out.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinystories.common.params import ModelConfig


@dataclass(frozen=True)
class Peer:
    """`build(shape, vocab_size, attention)` makes the model; `attentions` are the kinds that it knows."""

    name: str
    package: str
    build: Callable[[ModelConfig, int, str], nn.Module]
    attentions: tuple[str, ...] = ("sdpa",)

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None


class GPT2(nn.Module):
    """A compact GPT-2 as in nanoGPT: learned positions, LayerNorm, GELU, biases."""

    def __init__(self, config: ModelConfig, vocab_size: int, attention: str) -> None:
        super().__init__()
        width = config.embedding_size
        self.embedding = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(config.context_length, width)
        self.blocks = nn.ModuleList(GPT2Block(width, config.heads, attention) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.embedding.weight)


class GPT2Block(nn.Module):
    def __init__(self, width: int, heads: int, attention: str) -> None:
        super().__init__()
        self.heads, self.attention = heads, attention
        self.attn_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv_proj, self.o_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up_proj, self.down_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        projected = self.qkv_proj(self.attn_norm(x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = projected.permute(2, 0, 3, 1, 4)
        if self.attention == "sdpa":
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            hidden = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
            scores = (q @ k.transpose(-2, -1)) * k.shape[-1] ** -0.5
            mixed = scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v
        x = x + self.o_proj(mixed.transpose(1, 2).reshape(batch, length, width))
        changed: Tensor = self.down_proj(F.gelu(self.up_proj(self.mlp_norm(x)), approximate="tanh"))
        return x + changed


class Encoder(nn.Module):
    """PyTorch's own layers as the public baseline uses them: learned positions, feed-forward only as wide as the
    embedding, normalised after each part (PyTorch's default), a causal mask."""

    def __init__(self, config: ModelConfig, vocab_size: int, attention: str) -> None:
        super().__init__()
        width = config.embedding_size
        self.embedding = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(config.context_length, width)
        layer = nn.TransformerEncoderLayer(width, config.heads, dim_feedforward=width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=tokens.device)
        x = self.embedding(tokens) + self.positions(torch.arange(length, device=tokens.device))
        return F.linear(self.encoder(x, mask=mask, is_causal=True), self.embedding.weight)


class Logits(nn.Module):
    """A model of `transformers`, giving its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=tokens, use_cache=False).logits
        return logits


def transformers_gpt2(config: ModelConfig, vocab_size: int, attention: str) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=vocab_size,
        n_positions=config.context_length,
        n_embd=config.embedding_size,
        n_layer=config.layers,
        n_head=config.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation=attention,
    )
    return Logits(GPT2LMHeadModel(config))


def transformers_llama(config: ModelConfig, vocab_size: int, attention: str) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size,
        max_position_embeddings=config.context_length,
        hidden_size=config.embedding_size,
        intermediate_size=config.mlp_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation=attention,
    )
    return Logits(LlamaForCausalLM(config))


def litgpt_llama(config: ModelConfig, vocab_size: int, attention: str) -> nn.Module:
    from litgpt import GPT, Config

    config = Config(
        block_size=config.context_length,
        vocab_size=vocab_size,
        padded_vocab_size=vocab_size,
        n_layer=config.layers,
        n_head=config.heads,
        n_embd=config.embedding_size,
        intermediate_size=config.mlp_size,
        bias=False,
        rotary_percentage=1.0,
        parallel_residual=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
    )
    model = GPT(config)
    model.lm_head.weight = model.transformer.wte.weight
    nn.init.normal_(model.lm_head.weight, std=0.02)
    return cast(nn.Module, model)


def x_transformers_llama(config: ModelConfig, vocab_size: int, attention: str) -> nn.Module:
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(
        dim=config.embedding_size,
        depth=config.layers,
        heads=config.heads,
        attn_dim_head=config.head_size,
        attn_flash=attention == "sdpa",
        rotary_pos_emb=True,
        use_rmsnorm=True,
        ff_swish=True,
        ff_glu=True,
        ff_no_bias=True,
        ff_mult=config.mlp_size / config.embedding_size,
    )
    model = TransformerWrapper(
        num_tokens=vocab_size,
        max_seq_len=config.context_length,
        attn_layers=layers,
        use_abs_pos_emb=False,
        tie_embedding=True,
    )
    return cast(nn.Module, model)


PEERS = (
    Peer("GPT-2 as in nanoGPT", "torch", GPT2, ("sdpa", "products")),
    Peer("nn.TransformerEncoder", "torch", Encoder),
    Peer("transformers GPT-2", "transformers", transformers_gpt2, ("sdpa", "eager")),
    Peer("transformers Llama", "transformers", transformers_llama, ("sdpa", "eager")),
    Peer("litgpt", "litgpt", litgpt_llama),
    Peer("x-transformers", "x_transformers", x_transformers_llama, ("sdpa", "eager")),
)


def parameter_count(model: nn.Module) -> int:
    """Trained numbers, a tied embedding counted once."""
    return sum(weight.numel() for weight in model.parameters())


def matrix_weights(model: nn.Module) -> int:
    """Weights that stand in a matrix product: no tables of positions, which are looked up, and no norms' gains."""
    return sum(
        weight.numel()
        for name, weight in model.named_parameters()
        if weight.dim() > 1 and not any(other in name for other in ("positions", "wpe", "norm"))
    )
