"""How operations reach a GPU: beside one another, and many as one. On other devices everything is done as it comes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

WARMUP_CALLS = 3  # before a CUDA graph is recorded: they compile kernels, and allocate what libraries need


class SideStream:
    """A second queue of operations: one too small to fill the GPU leaves room for another."""

    def __init__(self, device: torch.device) -> None:
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextmanager
    def start(self) -> Iterator[None]:
        """What is launched in the block begins when all before it is done, and does not hold up what comes after it."""
        if self._stream is None:
            yield
            return
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield

    def wait(self) -> None:
        """Let what comes after it wait for all that was started. Until then nothing of it may be given back."""
        if self._stream is not None:
            torch.cuda.current_stream().wait_stream(self._stream)


class CudaGraph:
    """A function that always does the same, launched as one operation: one by one, launching takes a GPU's host longer
    than computing takes the GPU.

    It takes its input from tensors that stay where they are, and leaves its results in such.
    """

    def __init__(self, function: Callable[[], None], device: torch.device) -> None:
        self._function, self._on_gpu = function, device.type == "cuda"
        self._graph: torch.cuda.CUDAGraph | None = None
        self._calls = 0

    def __call__(self) -> None:
        if self._on_gpu and self._graph is None and self._calls == WARMUP_CALLS:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._function()
        if self._graph is None:
            self._function()
        else:
            self._graph.replay()
        self._calls += 1
