"""Embeddings in which tokens that stand in the same contexts are alike, before any training.

Rare tokens are seen too seldom to learn that from their own gradients. A context is a token at some distance before or
after. For each distance and side a matrix says how much more often than by chance a token has a context: positive
pointwise mutual information (PPMI) with smoothed contexts. The rows are the left factor of these matrices side by side,
with the square root of the singular values (Levy, Goldberg & Dagan 2015, https://aclanthology.org/Q15-1016), found by
subspace iteration (Halko, Martinsson & Tropp 2011, arXiv 0909.4061).

Computed in fp64 and then rounded, so that no processor and no number of threads gives other bits, unless a value lies
within fp64's error of the middle between two.
"""

import numpy as np
import torch
from torch import Tensor

DISTANCES = (1, 2, 3, 4, 6, 8)  # of contexts, in tokens
CONTEXT_SMOOTHING = 0.75  # the power of a context's frequency; less than 1, or rare contexts would count for too much
ITERATIONS = 4  # of the subspace; the last components have converged no further, and need not
NEIGHBOURS = 10  # within which a token is crowded
CHUNK = 1_000  # rows compared with all at once


def cooccurrence_embedding(tokens: Tensor, vocab_size: int, width: int, generator: torch.Generator) -> Tensor:
    """Return a row of mean square 1 for each token, a random one where no context says anything of it.

    Shapes: (N,), int64 on the CPU -> (V, width), fp32 with the precision of bf16.
    """
    components = min(width, vocab_size)
    start = torch.randn(vocab_size, components, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q
    contexts = [context for distance in DISTANCES for context in ppmi(tokens, vocab_size, distance)]
    pairs = [(context, context.t().coalesce()) for context in contexts]

    def similarity(rows: Tensor) -> Tensor:
        """Multiply by the matrix whose eigenvalues are the squares of the singular values. Shape: (V, components)."""
        rows = rows.contiguous()  # QR's, column by column, are multiplied at a third of the speed
        products = torch.zeros_like(rows)
        for context, transposed in pairs:
            products += context @ (transposed @ rows)
        return products

    basis = torch.linalg.qr(start).Q
    for _ in range(ITERATIONS):
        basis = torch.linalg.qr(similarity(basis)).Q
    eigenvalues, eigenvectors = torch.linalg.eigh(basis.T @ similarity(basis))
    # The eigenvectors' signs and order, which rounding decides, cancel out. The rotation spreads each component over
    # the whole row, as no direction of an embedding is special.
    rows = basis @ (eigenvectors * eigenvalues.clamp(min=0) ** 0.25 @ eigenvectors.T) @ rotation[:components]
    scale = rows.square().mean(1, keepdim=True).sqrt()
    fallback = torch.randn(vocab_size, width, generator=generator, dtype=torch.float64)
    return torch.where(scale > 1e-6, rows / scale, fallback).bfloat16().float()


def crowding(rows: Tensor) -> Tensor:
    """Return each row's cosine to the tenth nearest of the others. Shapes: (V, width) -> (V, 1)."""
    rows = torch.nn.functional.normalize(rows)
    neighbours = min(NEIGHBOURS, len(rows) - 1)
    # With itself the row is one more. In parts, as all cosines together are V².
    nearest = [(part @ rows.T).topk(neighbours + 1).values[:, -1:] for part in torch.split(rows, CHUNK)]
    return torch.cat(nearest).bfloat16().float()


def ppmi(tokens: Tensor, vocab_size: int, distance: int) -> tuple[Tensor, Tensor]:
    """Return the positive pointwise mutual information of each token with the one `distance` after, and before.

    In nats over the root of the distance: near contexts count for more. Shapes: (N,) -> (V, V) each, fp64, sparse.
    """

    def information(counts: Tensor) -> Tensor:
        frequency = torch.sparse.sum(counts, 1).to_dense()
        context = torch.sparse.sum(counts, 0).to_dense() ** CONTEXT_SMOOTHING
        row, column = counts.indices()
        ratios = counts.values() * context.sum() / (frequency[row] * context[column])
        above = ratios > 1
        return sparse(counts.indices()[:, above], ratios[above].log() / distance**0.5)

    def sparse(indices: Tensor, values: Tensor) -> Tensor:
        return torch.sparse_coo_tensor(indices, values, (vocab_size, vocab_size), check_invariants=True).coalesce()

    # NumPy's sort of 32-bit numbers is many times as fast as torch.unique. A vocabulary has at most 2^16 tokens.
    pairs = (tokens[:-distance] * vocab_size + tokens[distance:]).numpy().astype(np.uint32)
    pairs, found = np.unique(pairs, return_counts=True)
    indices = np.stack(np.divmod(pairs.astype(np.int64), vocab_size))
    after = sparse(torch.from_numpy(indices), torch.from_numpy(found).double())
    return information(after), information(after.t().coalesce())
