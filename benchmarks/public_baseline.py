"""The public baseline's recipe, to compare with, rebuilt from its description.

Embeddings N(0, 1), tied to the output, and N(0, 1) positions; blocks of plain nn.Linear layers as PyTorch begins them,
normalisation before each part, a feed-forward layer only as wide as the embedding, dropout 0.1; AdamW at a constant
5e-5 without warmup or clipping; windows drawn at random with replacement. Its first loss tells where it normalises:
157, as the baseline's own; normalisation after each part would begin at 60 to 130.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinystories.common.params import ModelConfig
from tinystories.tokenization.token_files import TokenArray
from tinystories.training.batches import IntArray

LEARNING_RATE = 5e-5
DROPOUT = 0.1


class Block(nn.Module):
    """One transformer block. Shapes: (B, T, D) -> (B, T, D)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.embedding_size
        self.config = config
        self.attn_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv_proj, self.o_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up_proj, self.down_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x_BTD: Tensor, hidden_TT: Tensor) -> Tensor:
        x_BTD = x_BTD + self.dropout(self._attention(self.attn_norm(x_BTD), hidden_TT))
        up = F.relu(self.up_proj(self.mlp_norm(x_BTD)))
        added_BTD: Tensor = self.dropout(self.down_proj(up))
        return x_BTD + added_BTD

    def _attention(self, x_BTD: Tensor, hidden_TT: Tensor) -> Tensor:
        batch, length, width = x_BTD.shape
        heads, size = self.config.heads, self.config.head_size
        q, k, v = self.qkv_proj(x_BTD).view(batch, length, 3, heads, size).permute(2, 0, 3, 1, 4)
        scores: Tensor = (q * size**-0.5) @ k.transpose(-2, -1)
        mixed: Tensor = scores.masked_fill(hidden_TT, float("-inf")).softmax(-1).to(v.dtype) @ v
        mixed_BTD: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return mixed_BTD


class PublicBaseline(nn.Module):
    """Letters in shapes: B batch, T tokens, D embedding, V vocabulary."""

    def __init__(
        self, config: ModelConfig, vocab_size: int, seed: int, compute_dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype
        torch.manual_seed(seed)  # also of the dropout, which draws from PyTorch's one generator
        self.embedding = nn.Parameter(torch.randn(vocab_size, config.embedding_size))
        self.positions = nn.Parameter(torch.randn(config.context_length, config.embedding_size))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_norm = nn.LayerNorm(config.embedding_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token that follows each token. Shapes: (B, T) -> (B, T, V)."""
        length = tokens.shape[1]
        hidden = torch.ones(length, length, dtype=torch.bool, device=tokens.device).triu(1)
        # The stock layers cast nothing themselves.
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.compute_dtype == torch.bfloat16):
            x_BTD = F.embedding(tokens, self.embedding) + self.positions[:length]
            for block in self.blocks:
                x_BTD = block(x_BTD, hidden)
            logits: Tensor = F.linear(self.final_norm(x_BTD), self.embedding)
        return logits

    def loss(self, tokens: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        """Cross-entropy in nats a token, computed in fp32. Shapes: (B, T), (B, T) -> ()."""
        logits = self(tokens).float().flatten(0, 1)
        return F.cross_entropy(logits, targets.flatten(), reduction=reduction)


def trainer(model: PublicBaseline, learning_rate: float, compiled: bool) -> Callable[[int, Tensor, Tensor], Tensor]:
    """A function that trains `model` on the batch of a step (from 0) and returns its loss. Shapes: (B, T) -> ()."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, fused=True)
    loss_of = torch.compile(model.loss) if compiled else model.loss

    def train(step: int, inputs: Tensor, targets: Tensor) -> Tensor:
        loss: Tensor = loss_of(inputs, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return train


def random_windows(
    tokens: TokenArray, length: int, count: int, seed: int
) -> Callable[[int], tuple[IntArray, IntArray]]:
    """Inputs and targets of a step (from 0): windows from anywhere, drawn with replacement. Shapes: (count, length)."""

    def batch(step: int) -> tuple[IntArray, IntArray]:
        starts = np.random.default_rng([seed, step]).integers(len(tokens) - length, size=count)
        rows = tokens[starts[:, None] + np.arange(length + 1)].astype(np.int64)
        return rows[:, :-1], rows[:, 1:]

    return batch
