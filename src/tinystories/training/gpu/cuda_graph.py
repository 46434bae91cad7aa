"""How operations are launched on a GPU: in parallel, and many as one. On other devices they run in order."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

WARMUP_CALLS = 3  # before a CUDA graph is captured: they compile kernels, and allocate what libraries need


class SideStream:
    """A second CUDA stream: operations too small to fill the GPU run in parallel with others."""

    def __init__(self, device: torch.device) -> None:
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextmanager
    def fork(self) -> Iterator[None]:
        """Launch the block's operations on the side stream. They start when all earlier operations are done."""
        if self._stream is None:
            yield
            return
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield

    def join(self) -> None:
        """Let later operations wait for those of the side stream. Until then no memory of theirs may be freed."""
        if self._stream is not None:
            torch.cuda.current_stream().wait_stream(self._stream)


class CudaGraph:
    """A function captured as a CUDA graph, launched as one operation.

    Launching its operations one by one takes the host longer than the GPU needs to compute them. The function always
    does the same: it reads its input from tensors that stay where they are, and writes its results to such tensors.
    """

    def __init__(self, function: Callable[[], None], device: torch.device) -> None:
        self._function, self._on_gpu = function, device.type == "cuda"
        self._captured: torch.cuda.CUDAGraph | None = None
        self._calls = 0

    def __call__(self) -> None:
        if self._on_gpu and self._captured is None and self._calls == WARMUP_CALLS:
            self._captured = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._captured):
                self._function()
        if self._captured is None:
            self._function()
        else:
            self._captured.replay()
        self._calls += 1
