"""Embeddings in which tokens that stand near the same others are alike, before any training.

Rare tokens are seen too seldom to learn that from their own gradients. The rows are factors of a matrix of how much
more often than by chance two tokens stand near one another: positive pointwise mutual information (PPMI) with smoothed
contexts (Levy, Goldberg & Dagan 2015, https://aclanthology.org/Q15-1016), factored by subspace iteration (Halko,
Martinsson & Tropp 2011, arXiv 0909.4061).

Computed in fp64 and then rounded, so that no processor and no number of threads gives other bits, unless a value lies
within fp64's error of the middle between two.
"""

import numpy as np
import torch
from torch import Tensor

DISTANCE_WEIGHTS = (12, 6, 4, 3)  # of pairs 1, 2, 3 and 4 tokens apart: 1 / distance, in whole numbers
CONTEXT_SMOOTHING = 0.75  # the power of a context's frequency; less than 1, or rare contexts would count for too much
ITERATIONS = 4  # of the subspace; the last components have converged no further, and need not
NEIGHBOURS = 10  # within which a token is crowded
CHUNK = 1_000  # rows compared with all at once


def cooccurrence_embedding(tokens: Tensor, vocab_size: int, width: int, generator: torch.Generator) -> Tensor:
    """Return a row of mean square 1 for each token, a random one where it stands near no other.

    Shapes: (N,), int64 on the CPU -> (V, width), fp32 with the precision of bf16.
    """
    components = min(width, vocab_size)
    start = torch.randn(vocab_size, components, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q
    matrix = ppmi(tokens, vocab_size)
    basis = torch.linalg.qr(start).Q
    for _ in range(ITERATIONS):
        basis = torch.linalg.qr(matrix @ basis).Q
    eigenvalues, eigenvectors = torch.linalg.eigh(basis.T @ (matrix @ basis))
    # The eigenvectors' signs and order, which rounding decides, cancel out. The rotation spreads each component over
    # the whole row, as no direction of an embedding is special.
    rows = basis @ (eigenvectors * eigenvalues.abs().sqrt() @ eigenvectors.T) @ rotation[:components]
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


def ppmi(tokens: Tensor, vocab_size: int) -> Tensor:
    """Return the positive pointwise mutual information of all pairs in nats, symmetric, sparse. Shape: (V, V), fp64."""

    def sparse(indices: Tensor, values: Tensor) -> Tensor:
        return torch.sparse_coo_tensor(indices, values, (vocab_size, vocab_size), check_invariants=True).coalesce()

    counts = sparse(torch.empty(2, 0, dtype=torch.int64), torch.empty(0, dtype=torch.float64))
    for distance, weight in enumerate(DISTANCE_WEIGHTS, 1):
        # NumPy's sort is several times as fast as torch.unique.
        pairs, found = np.unique((tokens[:-distance] * vocab_size + tokens[distance:]).numpy(), return_counts=True)
        indices = torch.from_numpy(np.stack(np.divmod(pairs, vocab_size)))
        counts = counts + sparse(indices, torch.from_numpy(found).double() * weight)
    counts = (counts + counts.t()).coalesce()
    frequency = torch.sparse.sum(counts, 1).to_dense()
    context = frequency**CONTEXT_SMOOTHING / (frequency**CONTEXT_SMOOTHING).sum()
    row, column = counts.indices()
    information = sparse(counts.indices(), (counts.values() / (frequency[row] * context[column])).log().clamp(min=0))
    return ((information + information.t()) / 2).coalesce()
