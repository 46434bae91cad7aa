"""Loss and gradients of a batch on a GPU: what `GPT.loss` and autograd compute, written out.

At the reference shape an operation takes a GPU a few microseconds, most of which are launching it and writing what the
next one reads again. Here all operations between two matrix products are one kernel, every result has a preallocated
tensor, and the weight gradients of all layers are one product, which fills a GPU better than one for each layer.

`test_gpu_step_computes_autograds_loss_and_gradients` in tests/training/gpu/test_gpu_step.py compares the two.
Letters in shapes: N tokens of a batch; B, T, D, F, H, K, L, V as in model/gpt.py.
"""

import torch
from torch import Tensor

from tinystories.model.gpt import GPT
from tinystories.training.gpu import attention, pointwise
from tinystories.training.gpu.cuda_graph import CudaGraph, SideStream

COMPUTE_WEIGHTS = ("embedding", "qkv_proj", "o_proj", "gate_up_proj", "down_proj")
MAX_WIDTH = 1024  # for wider models the matrix products dominate, and rows no longer fit into registers
MAX_ELEMENTS = 2**31  # of a tensor: the kernels index with 32 bits, except in the logits
LIMITS = (
    f"are made for at most {attention.MAX_SEQ_LEN} tokens of context, heads of "
    f"{', '.join(map(str, attention.HEAD_SIZES[:-1]))} or {attention.HEAD_SIZES[-1]} components and embeddings of at "
    f"most {MAX_WIDTH}, and activations of less than 2^31 numbers"
)


def is_supported(model: GPT, batch_size: int) -> bool:
    """Return whether the kernels are made for such a model and batch."""
    config, dtype = model.config, model.compute_dtype
    widest = max(3 * config.embedding_size, 2 * config.mlp_size)
    return (
        attention.is_supported(config.context_length, config.head_size, dtype)
        and config.embedding_size <= MAX_WIDTH
        and batch_size * config.context_length * widest < MAX_ELEMENTS
    )


class GpuStep:
    """Computes with the model's own weights; the next call overwrites the gradients that it returns.

    `compute_weights` are copies of the matrices in the compute dtype. Code that changes the model's weights must
    change them too, or call `sync_compute_weights`.
    """

    def __init__(self, model: GPT, batch_size: int) -> None:
        self._weights = {name: weight.detach() for name, weight in model.named_parameters()}
        self._rope = model.rope_cos, model.rope_sin
        self._layers = model.config.layers
        self.compute_weights = {
            name: torch.empty_like(self._weights[name], dtype=model.compute_dtype) for name in COMPUTE_WEIGHTS
        }
        self.sync_compute_weights()
        self._allocate_grads()
        self._allocate_activations(model, batch_size)
        device = model.embedding.device
        self._vocab_ids = torch.arange(model.vocab_size + 1, dtype=torch.int32, device=device)
        self._side_stream = SideStream(device)
        self._loss = torch.zeros((), device=device)
        self._eval_batch = torch.zeros((2, batch_size, model.config.context_length), dtype=torch.int64, device=device)
        self._evaluate = CudaGraph(self._eval_body, device)

    def _allocate_grads(self) -> None:
        sizes = [weight.numel() for weight in self._weights.values()]
        self.flat_grads = torch.empty(sum(sizes), dtype=torch.float32, device=self._weights["embedding"].device)
        parts = zip(self._weights.items(), torch.split(self.flat_grads, sizes), strict=True)
        self._grads = {name: part.view_as(weight) for (name, weight), part in parts}

    def _allocate_activations(self, model: GPT, batch_size: int) -> None:
        config, device = model.config, model.embedding.device
        layers, width, mlp_size, seq_len = config.layers, config.embedding_size, config.mlp_size, config.context_length
        heads, head_size = config.heads, config.head_size
        count = batch_size * seq_len

        def empty(*size: int, dtype: torch.dtype = model.compute_dtype) -> Tensor:
            return torch.empty(size, dtype=dtype, device=device)

        fp32 = torch.float32
        # The residual stream before each norm, its norm, and its gradient: at index 2 l before the attention of layer
        # l, at 2 l + 1 before its MLP, at 2 L before the output.
        self._residual, self._normed, self._grad_residual = (empty(2 * layers + 1, count, width) for _ in range(3))
        self._qk_norm_weight = empty(layers, 2, head_size, dtype=fp32)
        self._qkv = empty(layers, batch_size, seq_len, 3, heads, head_size)
        self._grad_qkv = torch.empty_like(self._qkv)
        self._attn_out = empty(layers, batch_size, seq_len, heads, head_size)
        self._lse = empty(layers, batch_size, heads, seq_len, dtype=fp32)
        self._gate_up = empty(layers, count, 2 * mlp_size)
        self._grad_gate_up = torch.empty_like(self._gate_up)
        self._hidden = empty(layers, count, mlp_size)
        self._logits, self._losses = empty(count, model.vocab_size), empty(count, dtype=fp32)
        # Shared by all layers, because nothing later reads them.
        self._branch_out, self._grad_normed, self._grad_hidden = (
            empty(count, size) for size in (width, width, mlp_size)
        )
        # Gradients of norm weights, as partial sums and in total: those of `_residual`, and those of QK-norm.
        self._norm_grad_partials = empty(2 * layers + 1, pointwise.NUM_PARTIALS, width, dtype=fp32)
        self._qk_norm_grad_partials = empty(layers, batch_size * heads, 2 * head_size, dtype=fp32)
        self._norm_grads = empty(2 * layers + 1, width, dtype=fp32)
        self._qk_norm_grads = empty(layers, 2, head_size, dtype=fp32)

    def sync_compute_weights(self) -> None:
        """Copy the model's weights to `compute_weights`."""
        for name, compute_weight in self.compute_weights.items():
            compute_weight.copy_(self._weights[name])

    @torch.no_grad()
    def loss_and_grads(self, tokens: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the mean loss, (), and the gradients of all weights, fp32. Shapes: (B, T), (B, T)."""
        tokens = tokens.flatten()
        with self._side_stream.fork():
            sorted_tokens, sort_idx = tokens.int().sort(stable=True)
            segment_offsets = torch.searchsorted(sorted_tokens, self._vocab_ids, out_int32=True)
        self._forward(tokens)
        pointwise.cross_entropy(self._logits, targets.flatten(), self._losses)
        _weight_grad(self._logits[None], self._normed[-1:], self._grads["embedding"][None])
        self._backward()
        with self._side_stream.fork():
            torch.mean(self._losses, dim=0, out=self._loss)
            pointwise.embedding_backward(self._grads["embedding"], self._grad_residual[0], sort_idx, segment_offsets)
            self._norm_weight_grads()
        self._matrix_grads()
        self._side_stream.join()
        return self._loss, self._grads

    @torch.no_grad()
    def loss_sum(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Compute the sum of the losses, (). Shapes: (a multiple of B, T) for both."""
        total = torch.zeros_like(self._loss)
        batches = torch.stack((tokens, targets)).view(2, -1, *self._eval_batch.shape[1:])
        for batch in batches.unbind(1):
            self._eval_batch.copy_(batch)
            self._evaluate()
            total += self._losses.sum()
        return total

    def _eval_body(self) -> None:
        tokens, targets = self._eval_batch.flatten(1)
        self._forward(tokens)
        pointwise.cross_entropy(self._logits, targets, self._losses)

    def _forward(self, tokens: Tensor) -> None:
        weights, compute_weights, normed = self._weights, self.compute_weights, self._normed
        torch.stack((weights["q_norm"], weights["k_norm"]), dim=1, out=self._qk_norm_weight)
        torch.index_select(compute_weights["embedding"], 0, tokens, out=self._residual[0])
        for layer in range(self._layers):
            attn_idx, mlp_idx = 2 * layer, 2 * layer + 1
            qkv, attn_out, gate_up = self._qkv[layer], self._attn_out[layer], self._gate_up[layer]
            self._norm(attn_idx)
            torch.mm(normed[attn_idx], compute_weights["qkv_proj"][layer].flatten(0, 1).mT, out=_flatten_tokens(qkv))
            attention.forward(qkv, self._qk_norm_weight[layer], *self._rope, attn_out, self._lse[layer])
            torch.mm(_flatten_tokens(attn_out), compute_weights["o_proj"][layer].mT, out=self._branch_out)
            self._norm(mlp_idx)
            torch.mm(normed[mlp_idx], compute_weights["gate_up_proj"][layer].flatten(0, 1).mT, out=gate_up)
            pointwise.swiglu_forward(gate_up, self._hidden[layer])
            torch.mm(self._hidden[layer], compute_weights["down_proj"][layer].mT, out=self._branch_out)
        self._norm(2 * self._layers)
        torch.mm(normed[-1], compute_weights["embedding"].mT, out=self._logits)

    def _backward(self) -> None:
        """Compute the gradients of the activations. `_logits` already holds its own gradient."""
        compute_weights, grad_residual, grad_normed = self.compute_weights, self._grad_residual, self._grad_normed
        torch.mm(self._logits, compute_weights["embedding"], out=grad_normed)
        self._norm_backward(2 * self._layers)
        for layer in reversed(range(self._layers)):
            attn_idx, mlp_idx = 2 * layer, 2 * layer + 1
            grad_qkv, grad_gate_up = self._grad_qkv[layer], self._grad_gate_up[layer]
            torch.mm(grad_residual[mlp_idx + 1], compute_weights["down_proj"][layer], out=self._grad_hidden)
            pointwise.swiglu_backward(self._gate_up[layer], self._grad_hidden, grad_gate_up)
            torch.mm(grad_gate_up, compute_weights["gate_up_proj"][layer].flatten(0, 1), out=grad_normed)
            self._norm_backward(mlp_idx)
            grad_attn_out = grad_normed  # the same memory, because neither outlives the next product
            torch.mm(grad_residual[mlp_idx], compute_weights["o_proj"][layer], out=grad_attn_out)
            attention.backward(
                self._qkv[layer], self._qk_norm_weight[layer], *self._rope, self._attn_out[layer], self._lse[layer],
                grad_attn_out, grad_qkv, self._qk_norm_grad_partials[layer],
            )  # fmt: skip
            torch.mm(_flatten_tokens(grad_qkv), compute_weights["qkv_proj"][layer].flatten(0, 1), out=grad_normed)
            self._norm_backward(attn_idx)

    def _matrix_grads(self) -> None:
        for name, grad_out, x in (
            ("qkv_proj", self._grad_qkv.flatten(1, 2).flatten(2), self._normed[:-1:2]),
            ("o_proj", self._grad_residual[1::2], self._attn_out.flatten(1, 2).flatten(2)),
            ("gate_up_proj", self._grad_gate_up, self._normed[1::2]),
            ("down_proj", self._grad_residual[2::2], self._hidden),
        ):
            _weight_grad(grad_out, x, self._grads[name].flatten(1, -2))

    def _norm_weight_grads(self) -> None:
        pointwise.sum_partials(self._norm_grad_partials, self._norm_grads)
        pointwise.sum_partials(self._qk_norm_grad_partials, self._qk_norm_grads)
        self._grads["attn_norm"].copy_(self._norm_grads[:-1:2])
        self._grads["mlp_norm"].copy_(self._norm_grads[1::2])
        self._grads["final_norm"].copy_(self._norm_grads[-1])
        self._grads["q_norm"].copy_(self._qk_norm_grads[:, 0])
        self._grads["k_norm"].copy_(self._qk_norm_grads[:, 1])

    def _norm(self, idx: int) -> None:
        """Add the last branch to the residual stream, and apply norm `idx`."""
        x, branch_out = (self._residual[idx - 1], self._branch_out) if idx else (self._residual[0], None)
        pointwise.norm_forward(x, branch_out, self._norm_weight(idx), self._residual[idx], self._normed[idx])

    def _norm_backward(self, idx: int) -> None:
        grad_skip = self._grad_residual[idx + 1] if idx < 2 * self._layers else None
        grad_x, grad_weight = self._grad_residual[idx], self._norm_grad_partials[idx]
        pointwise.norm_backward(
            self._residual[idx], self._norm_weight(idx), self._grad_normed, grad_skip, grad_x, grad_weight
        )

    def _norm_weight(self, idx: int) -> Tensor:
        if idx == 2 * self._layers:
            return self._weights["final_norm"]
        return self._weights["mlp_norm" if idx % 2 else "attn_norm"][idx // 2]


def _flatten_tokens(x: Tensor) -> Tensor:
    """View a layer's tensor as one row for each token. Shapes: (B, T, ...) -> (N, ...)."""
    return x.view(x.shape[0] * x.shape[1], -1)


def _weight_grad(grad_out: Tensor, x: Tensor, grad: Tensor) -> None:
    """Write the gradient of each layer's matrix, summed in fp32. Shapes: (L, N, O), (L, N, I) -> (L, O, I)."""
    if x.dtype == grad.dtype:
        torch.bmm(grad_out.mT, x, out=grad)
    else:
        torch.ops.aten.bmm.dtype_out(grad_out.mT, x, grad.dtype, out=grad)
