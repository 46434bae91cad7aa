"""The backend of a training: device, precision, whether compiled. And the settings of PyTorch and malloc."""

import ctypes
import os
import platform
import subprocess
from dataclasses import dataclass

import torch

from tinystories.common.console import info, warn
from tinystories.common.errors import UserError, shorten
from tinystories.common.params import Params
from tinystories.common.paths import state_directory
from tinystories.model.device import choose_device, device_name

# Compiling takes half a minute on a CPU and makes steps up to twice as fast. A small CPU computes this many
# floating-point operations in about a minute: a training of more is compiled.
MIN_FLOPS_TO_COMPILE = 1e13


@dataclass(frozen=True)
class Backend:
    """A device and how to compute on it."""

    device: torch.device
    dtype: torch.dtype
    compiled: bool

    @property
    def precision(self) -> str:
        """`bf16` or `fp32`."""
        return "bf16" if self.dtype == torch.bfloat16 else "fp32"


def choose_backend(params: Params, vocab_size: int) -> Backend:
    """Resolve `auto` in train.device, train.precision and train.compile.

    Errors: UserError where this machine lacks what a parameter asks for.
    """
    train = params.train
    device = choose_device(train.device)
    precision = train.precision
    if precision == "auto":
        precision = "bf16" if _computes_in_bf16(device) else "fp32"
    elif precision == "bf16" and device.type == "cuda" and not _computes_in_bf16(device):
        raise UserError("train.precision is bf16, but this GPU does not compute in bf16; it should be auto or fp32")
    compiled = train.compile == "on"
    if train.compile == "auto":
        compiled = device.type == "cuda" or (
            device.type == "cpu" and training_flops(params, vocab_size) > MIN_FLOPS_TO_COMPILE
        )
    # PyTorch loads what it has compiled by pickle: not from /tmp, where any user could have put it.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(state_directory() / "compiled"))
    if compiled:
        info("Trying torch.compile, some seconds.")
    problem = probe_compile(device) if compiled else None
    if problem and train.compile == "on":
        raise UserError(f"train.compile is on, but torch.compile fails here ({problem}); it should be auto or off")
    if problem:
        warn(f"torch.compile fails here ({problem}); training continues without it, slower")
    return Backend(device, torch.bfloat16 if precision == "bf16" else torch.float32, compiled and not problem)


def training_flops(params: Params, vocab_size: int) -> float:
    """Floating-point operations of the whole training.

    6 for each token and each weight of a matrix product (Kaplan et al. 2020, arXiv 2001.08361).
    """
    config, train = params.model, params.train
    block = 4 * config.embedding_size**2 + 3 * config.embedding_size * config.mlp_size
    weights = config.layers * block + vocab_size * config.embedding_size
    return 6.0 * weights * train.steps * train.batch_size * config.context_length


def probe_compile(device: torch.device) -> str | None:
    """Compile something small. Returns None, or in one line why it fails: no compiler, no Triton, no headers."""
    try:
        if device.type == "cuda":
            # A Triton kernel needs what torch.compile needs, and is compiled much faster.
            from tinystories.training.gpu.pointwise import swiglu_forward

            swiglu_forward(torch.ones(1, 2, device=device), torch.ones(1, 1, device=device))
        else:
            torch.compile(lambda x: x * 2 + 1)(torch.ones(8, device=device))
    except Exception as error:  # whatever a compiler, a linker or a driver has to say
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        more = next((number for number, line in enumerate(lines) if not line.endswith(":")), 0)  # "inductor raised:"
        return shorten(" ".join(lines[: more + 1]), 200) or type(error).__name__
    return None


def set_determinism() -> None:
    """Use deterministic algorithms on a GPU, so that the same training gives the same bits. A CPU needs none of this.

    Call it before anything uses the GPU: cuBLAS reads its setting once.
    """
    from torch._inductor import config

    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)
    # Meant for debugging; costs time in each step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    config.deterministic = True  # else kernels are chosen by their speed in a trial


def tune_malloc() -> None:
    """Let malloc keep the memory that a step frees for the next step. Saves a tenth of a step on a CPU.

    By default large blocks go back to the system, which clears each page before its next use. glibc only.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    trim_threshold, mmap_max = -1, -4  # malloc.h
    set_option(mmap_max, 0)
    set_option(trim_threshold, 2**31 - 1)


def describe_environment(backend: Backend) -> dict[str, str | int | bool | None]:
    """Describe device, versions and commit, for models/run.json."""
    return {
        "device": backend.device.type,
        "device_name": device_name(backend.device),
        "precision": backend.precision,
        "compiled": backend.compiled,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "git_commit": _git_commit(),
    }


def _computes_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # Without these units a CPU emulates bf16, slower than fp32. PyTorch before 2.12 cannot say what a CPU has.
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(capabilities.get(unit, False) for unit in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


def _git_commit() -> str | None:
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
