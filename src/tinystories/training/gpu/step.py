"""Loss and gradients of a batch on a GPU: what `GPT.loss` and autograd compute, written out.

At the reference shape an operation takes a GPU a few microseconds, most of which go into starting it and into writing
what the next one reads again. Here each stretch between two matrix products is one kernel, every result has a place of
its own from the beginning, and the gradients of weights are one product for all layers, which fills a GPU better than
one for each.

Letters in shapes: N tokens of a batch; D, F, H, K, L, V as in model.py.
"""

import torch
from torch import Tensor

from tinystories.model.gpt import GPT
from tinystories.training.gpu import attention as attention_gpu
from tinystories.training.gpu import pointwise as pointwise_gpu
from tinystories.training.gpu.cuda_graph import CudaGraph, SideStream

WITH_COPIES = ("embedding", "qkv_proj", "o_proj", "gate_up_proj", "down_proj")
MAX_WIDTH = 1024  # wider, the products take so long that the rest matters little, and rows no longer fit
MAX_COUNT = 2**31  # of a tensor's numbers: the kernels count in 32 bits, but for the logits


def fits(model: GPT, batch_size: int) -> bool:
    """Whether the kernels are made for such a model and batch."""
    config, dtype = model.config, model.compute_dtype
    widest = max(3 * config.embedding_size, 2 * config.mlp_size)
    return (
        attention_gpu.fits(config.context_length, config.head_size, dtype)
        and config.embedding_size <= MAX_WIDTH
        and batch_size * config.context_length * widest < MAX_COUNT
    )


class GpuStep:
    """Computes on the model's own weights; the gradients that it returns are overwritten by the next call.

    `copies` are the weights of products in the precision of the computation. They are made in the beginning and by
    `refresh`; otherwise whoever changes the model's weights changes them, too.
    """

    def __init__(self, model: GPT, batch_size: int) -> None:
        config, dtype, device = model.config, model.compute_dtype, model.embedding.device
        layers, width, hidden = config.layers, config.embedding_size, config.mlp_size
        heads, head_size, length = config.heads, config.head_size, config.context_length
        count = batch_size * length

        def empty(*size: int, dtype: torch.dtype = dtype) -> Tensor:
            return torch.empty(size, dtype=dtype, device=device)

        fp32 = torch.float32
        self._weights = {name: weight.detach() for name, weight in model.named_parameters()}
        self._rotation = model.rope_cos, model.rope_sin
        self._layers = layers
        self.copies = {name: empty(*self._weights[name].shape) for name in WITH_COPIES}
        self.refresh()
        sizes = [weight.numel() for weight in self._weights.values()]
        self.flat_grads = empty(sum(sizes), dtype=fp32)
        parts = zip(self._weights.items(), torch.split(self.flat_grads, sizes), strict=True)
        self._gradients = {name: part.view_as(weight) for (name, weight), part in parts}
        # The residual stream before each norm, its norm, and its gradient: before the attention of layer l at 2 l,
        # before its feed-forward part at 2 l + 1, before the output at 2 L.
        self._stream, self._normed, self._of_stream = (empty(2 * layers + 1, count, width) for _ in range(3))
        self._gains = empty(layers, 2, head_size, dtype=fp32)  # of queries and keys
        self._projected = empty(layers, batch_size, length, 3, heads, head_size)
        self._of_projected = torch.empty_like(self._projected)
        self._mixed = empty(layers, batch_size, length, heads, head_size)
        self._lse = empty(layers, batch_size, heads, length, dtype=fp32)
        self._gates = empty(layers, count, 2 * hidden)
        self._of_gates = torch.empty_like(self._gates)
        self._hidden = empty(layers, count, hidden)
        self._logits, self._losses = empty(count, model.vocab_size), empty(count, dtype=fp32)
        # What a layer computes and nobody needs later.
        self._change, self._of_change, self._of_hidden = empty(count, width), empty(count, width), empty(count, hidden)
        # Gradients of gains, in parts: of the norms in the order of `_stream`, of queries and keys.
        self._of_norms = empty(2 * layers + 1, pointwise_gpu.PARTS, width, dtype=fp32)
        self._of_gains = empty(layers, batch_size * heads, 2 * head_size, dtype=fp32)
        self._all_norms = empty(2 * layers + 1, width, dtype=fp32)
        self._all_gains = empty(layers, 2, head_size, dtype=fp32)
        self._vocabulary = torch.arange(model.vocab_size + 1, dtype=torch.int32, device=device)
        self._aside = SideStream(device)
        self._loss = torch.zeros((), dtype=fp32, device=device)
        self._scored = torch.zeros((2, batch_size, length), dtype=torch.int64, device=device)
        self._score = CudaGraph(self._score_once, device)

    def refresh(self) -> None:
        """Make the copies anew."""
        for name, copy in self.copies.items():
            copy.copy_(self._weights[name])

    @torch.no_grad()
    def loss_and_grads(self, tokens: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss, (), and the gradients of all weights, fp32. Shapes of both: (batch, context length)."""
        tokens = tokens.flatten()
        with self._aside.start():
            ordered, order = tokens.int().sort(stable=True)
            starts = torch.searchsorted(ordered, self._vocabulary, out_int32=True)
        self._forward(tokens)
        pointwise_gpu.cross_entropy(self._logits, targets.flatten(), self._losses)
        _weight_gradient(self._logits[None], self._normed[-1:], self._gradients["embedding"][None])
        self._backward()
        with self._aside.start():
            torch.mean(self._losses, dim=0, out=self._loss)
            pointwise_gpu.add_rows(self._gradients["embedding"], self._of_stream[0], order, starts)
            self._gain_gradients()
        self._weight_gradients()
        self._aside.wait()
        return self._loss, self._gradients

    @torch.no_grad()
    def loss_sum(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """The sum of the losses, (). Shapes of both: (some times the batch, context length)."""
        total = torch.zeros_like(self._loss)
        batches = torch.stack((tokens, targets)).view(2, -1, *self._scored.shape[1:])
        for batch in batches.unbind(1):
            self._scored.copy_(batch)
            self._score()
            total += self._losses.sum()
        return total

    def _score_once(self) -> None:
        tokens, targets = self._scored.flatten(1)
        self._forward(tokens)
        pointwise_gpu.cross_entropy(self._logits, targets, self._losses)

    def _forward(self, tokens: Tensor) -> None:
        weights, copies, stream, normed = self._weights, self.copies, self._stream, self._normed
        torch.stack((weights["q_norm"], weights["k_norm"]), dim=1, out=self._gains)
        torch.index_select(copies["embedding"], 0, tokens, out=stream[0])
        for layer in range(self._layers):
            at, between = 2 * layer, 2 * layer + 1
            self._norm(at)
            torch.mm(normed[at], copies["qkv_proj"][layer].flatten(0, 1).mT, out=_rows(self._projected[layer]))
            attention_gpu.forward(
                self._projected[layer], self._gains[layer], *self._rotation, self._mixed[layer], self._lse[layer]
            )
            torch.mm(_rows(self._mixed[layer]), copies["o_proj"][layer].mT, out=self._change)
            self._norm(between)
            torch.mm(normed[between], copies["gate_up_proj"][layer].flatten(0, 1).mT, out=self._gates[layer])
            pointwise_gpu.swiglu_forward(self._gates[layer], self._hidden[layer])
            torch.mm(self._hidden[layer], copies["down_proj"][layer].mT, out=self._change)
        self._norm(2 * self._layers)
        torch.mm(normed[-1], copies["embedding"].mT, out=self._logits)

    def _backward(self) -> None:
        """Gradients of the stream and of what is projected. The logits are their own gradient by now."""
        copies, of_stream = self.copies, self._of_stream
        torch.mm(self._logits, copies["embedding"], out=self._of_change)
        self._norm_backward(2 * self._layers)
        for layer in reversed(range(self._layers)):
            at, between = 2 * layer, 2 * layer + 1
            torch.mm(of_stream[between + 1], copies["down_proj"][layer], out=self._of_hidden)
            pointwise_gpu.swiglu_backward(self._gates[layer], self._of_hidden, self._of_gates[layer])
            torch.mm(self._of_gates[layer], copies["gate_up_proj"][layer].flatten(0, 1), out=self._of_change)
            self._norm_backward(between)
            torch.mm(of_stream[between], copies["o_proj"][layer], out=self._of_change)
            attention_gpu.backward(
                self._projected[layer], self._gains[layer], *self._rotation, self._mixed[layer], self._lse[layer],
                self._of_change, self._of_projected[layer], self._of_gains[layer],
            )  # fmt: skip
            torch.mm(_rows(self._of_projected[layer]), copies["qkv_proj"][layer].flatten(0, 1), out=self._of_change)
            self._norm_backward(at)

    def _weight_gradients(self) -> None:
        gradients, normed, of_stream = self._gradients, self._normed, self._of_stream
        for name, of_output, of_input in (
            ("qkv_proj", _tokens(self._of_projected), normed[:-1:2]),
            ("o_proj", of_stream[1::2], _tokens(self._mixed)),
            ("gate_up_proj", self._of_gates, normed[1::2]),
            ("down_proj", of_stream[2::2], self._hidden),
        ):
            _weight_gradient(of_output, of_input, gradients[name].flatten(1, -2))

    def _gain_gradients(self) -> None:
        gradients = self._gradients
        pointwise_gpu.sum_parts(self._of_norms, self._all_norms)
        pointwise_gpu.sum_parts(self._of_gains, self._all_gains)
        gradients["attn_norm"].copy_(self._all_norms[:-1:2])
        gradients["mlp_norm"].copy_(self._all_norms[1::2])
        gradients["final_norm"].copy_(self._all_norms[-1])
        gradients["q_norm"].copy_(self._all_gains[:, 0])
        gradients["k_norm"].copy_(self._all_gains[:, 1])

    def _norm(self, at: int) -> None:
        """Norm number `at`, of the stream before the last change plus that change."""
        before, change = (self._stream[at - 1], self._change) if at else (self._stream[0], None)
        pointwise_gpu.norm_forward(before, change, self._gain(at), self._stream[at], self._normed[at])

    def _norm_backward(self, at: int) -> None:
        beside = self._of_stream[at + 1] if at < 2 * self._layers else None
        pointwise_gpu.norm_backward(
            self._stream[at], self._gain(at), self._of_change, beside, self._of_stream[at], self._of_norms[at]
        )

    def _gain(self, at: int) -> Tensor:
        if at == 2 * self._layers:
            return self._weights["final_norm"]
        return self._weights["mlp_norm" if at % 2 else "attn_norm"][at // 2]


def _rows(x: Tensor) -> Tensor:
    """Of a layer's tensor, a row for each token. Shapes: (B, T, ...) -> (N, ...)."""
    return x.view(x.shape[0] * x.shape[1], -1)


def _tokens(x: Tensor) -> Tensor:
    """Of all layers' tensors, a row for each token. Shapes: (L, B, T, ...) -> (L, N, ...)."""
    return x.view(x.shape[0], x.shape[1] * x.shape[2], -1)


def _weight_gradient(of_output: Tensor, of_input: Tensor, result: Tensor) -> None:
    """Of a matrix for each layer, summed over all tokens in fp32. Shapes: (L, N, O), (L, N, I), (L, O, I)."""
    if of_input.dtype == result.dtype:
        torch.bmm(of_output.mT, of_input, out=result)
    else:
        torch.ops.aten.bmm.dtype_out(of_output.mT, of_input, result.dtype, out=result)
