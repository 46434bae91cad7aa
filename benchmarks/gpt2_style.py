"""The GPT-2 baseline (GPT-2, nanoGPT) to compare with: model and training.

Learned positions, LayerNorm with biases, a GELU MLP four times as wide, tied embeddings, N(0, 0.02) initialisation with
the residual projections scaled down by depth (Radford et al. 2019); AdamW, warmup, cosine decay, clipping. Written to
be fast on a CPU: weights are stacked by kind and cast to the compute dtype once a step, and attention is the library's.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinystories.common.params import ModelConfig
from tinystories.model.attention import causal_attention

INIT_STD = 0.02
BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.1  # on matrices, embeddings among them
WARMUP = 0.03  # fraction of the steps
FINAL = 0.1  # fraction of the peak rate at which the cosine ends
CLIP = 1.0


class GPT2Style(nn.Module):
    """Letters in shapes: B batch, T tokens, D embedding, L layers, V vocabulary."""

    def __init__(
        self, config: ModelConfig, vocab_size: int, seed: int, compute_dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype
        layers, width = config.layers, config.embedding_size
        generator = torch.Generator().manual_seed(seed)

        def normal(*size: int, std: float = INIT_STD) -> nn.Parameter:
            return nn.Parameter(torch.randn(size, generator=generator) * std)

        def constant(value: float, *size: int) -> nn.Parameter:
            return nn.Parameter(torch.full(size, value))

        residual_std = INIT_STD / math.sqrt(2 * layers)
        self.embedding = normal(vocab_size, width)
        self.positions = normal(config.context_length, width)
        self.final_norm = constant(1.0, width)
        self.final_norm_bias = constant(0.0, width)
        self.blocks = nn.ParameterDict(
            {
                "attn_norm": constant(1.0, layers, width),
                "attn_norm_bias": constant(0.0, layers, width),
                "qkv_proj": normal(layers, 3 * width, width),
                "qkv_proj_bias": constant(0.0, layers, 3 * width),
                "o_proj": normal(layers, width, width, std=residual_std),
                "o_proj_bias": constant(0.0, layers, width),
                "mlp_norm": constant(1.0, layers, width),
                "mlp_norm_bias": constant(0.0, layers, width),
                "up_proj": normal(layers, 4 * width, width),
                "up_proj_bias": constant(0.0, layers, 4 * width),
                "down_proj": normal(layers, width, 4 * width, std=residual_std),
                "down_proj_bias": constant(0.0, layers, width),
            }
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token that follows each token. Shapes: (B, T) -> (B, T, V), in the compute dtype."""
        length, dtype = tokens.shape[1], self.compute_dtype
        x_BTD = (F.embedding(tokens, self.embedding) + self.positions[:length]).to(dtype)
        width = x_BTD.shape[-1:]
        stacks = {name: stack.to(dtype).unbind() for name, stack in self.blocks.items()}
        for layer in range(self.config.layers):
            w = {name: stack[layer] for name, stack in stacks.items()}
            x1 = F.layer_norm(x_BTD, width, w["attn_norm"], w["attn_norm_bias"])
            projected = F.linear(x1, w["qkv_proj"], w["qkv_proj_bias"])
            q, k, v = projected.view(*tokens.shape, 3, self.config.heads, self.config.head_size).unbind(2)
            x_BTD = x_BTD + F.linear(causal_attention(q, k, v).flatten(2), w["o_proj"], w["o_proj_bias"])
            x2 = F.layer_norm(x_BTD, width, w["mlp_norm"], w["mlp_norm_bias"])
            up = F.gelu(F.linear(x2, w["up_proj"], w["up_proj_bias"]), approximate="tanh")
            x_BTD = x_BTD + F.linear(up, w["down_proj"], w["down_proj_bias"])
        x_BTD = F.layer_norm(x_BTD, width, self.final_norm.to(dtype), self.final_norm_bias.to(dtype))
        return F.linear(x_BTD, self.embedding.to(dtype))

    def loss(self, tokens: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        """Cross-entropy in nats a token, computed in fp32. Shapes: (B, T), (B, T) -> ()."""
        logits = self(tokens).float().flatten(0, 1)
        return F.cross_entropy(logits, targets.flatten(), reduction=reduction)


def trainer(
    model: GPT2Style, steps: int, learning_rate: float, compiled: bool
) -> Callable[[int, Tensor, Tensor], Tensor]:
    """A function that trains `model` on the batch of a step (from 0) and returns its loss. Shapes: (B, T) -> ()."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if "norm" not in name and "bias" not in name]
    others = [p for name, p in named if "norm" in name or "bias" in name]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=BETAS, fused=True)
    loss_of = torch.compile(model.loss) if compiled else model.loss

    def train(step: int, inputs: Tensor, targets: Tensor) -> Tensor:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * schedule(step, steps)
        loss: Tensor = loss_of(inputs, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return train


def schedule(step: int, steps: int) -> float:
    """Factor on the peak rate at this step (from 0): a straight line up, then a cosine down to FINAL."""
    warm = max(1, round(WARMUP * steps))
    if step < warm:
        return (step + 1) / warm
    return FINAL + (1 - FINAL) * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
