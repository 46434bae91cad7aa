"""The conditions under which a training computes: what decides its bits besides parameters, stories and code.

Floating-point sums depend on their order. The order depends on the number of threads (PyTorch's reductions, the code
of torch.compile, oneDNN's bf16 products), the processor and its vector units, the compiler, and whether the C++
kernels are used. So all of these are in the run key. Measurements: docs/reproducibility.md.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import torch

from tinystories.common.console import info, warn
from tinystories.common.errors import UserError
from tinystories.model.cpu_kernels import compile_kernels, compiler
from tinystories.model.device import processor
from tinystories.training.backend import Backend
from tinystories.training.resume import ResumeCheckpoint, TrainerState, read_state

# Environment variables of MKL and oneDNN that decide bits as well.
_ENVIRONMENT_VARIABLES = ("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE")
_VECTOR_UNITS = ("avx", "amx", "fma", "sve", "sme", "bf16", "neon", "asimd")

Conditions = Mapping[str, str | int | bool | None]


def find_conditions(backend: Backend, head_size: int) -> Conditions:
    """Find the conditions of this process, by name. Compiles the C++ kernels if the training uses them."""
    device = backend.device
    found: dict[str, str | int | bool | None] = {
        "device": device.type,
        "precision": backend.precision,
        "compiled": backend.compiled,
        "torch": torch.__version__,
    }
    if device.type == "cuda":
        capability = "{}.{}".format(*torch.cuda.get_device_capability(device))
        return found | {"processor": f"{torch.cuda.get_device_name(device)}, compute capability {capability}"}
    found |= {"processor": processor(), "vector_units": _vector_units(), "threads": torch.get_num_threads()}
    found |= {name: os.environ[name] for name in _ENVIRONMENT_VARIABLES if name in os.environ}
    if backend.compiled and device.type == "cpu":
        found |= {"compiler": compiler(), "kernels": compile_kernels(head_size, backend.dtype)}
    return found


def use_threads(conditions: Conditions) -> None:
    """Set PyTorch's number of threads to that of the conditions, whatever the number of cores."""
    threads = conditions.get("threads")
    if isinstance(threads, int):
        torch.set_num_threads(threads)


def conditions_to_resume(states: Path, training: str, here: Conditions) -> Conditions:
    """Choose the conditions under which the training resumes or starts.

    If a state of the same training under `states` differs from `here` in the number of threads alone, that number is
    used again, unless OMP_NUM_THREADS is set. A state that differs in anything else can be resumed only where it was
    made. It is kept, a warning says so, and the training starts over.
    """
    found = [state.conditions for state in newest_states(states) if state.training == training]
    if here in found:
        return here
    for saved in found:
        if _differing(saved, here) == ["threads"] and "OMP_NUM_THREADS" not in os.environ:
            info(
                f"This training was started with {_count_threads(saved)} and resumes with as many, because another "
                "number gives other bits. To start over instead, set OMP_NUM_THREADS."
            )
            return saved
        changes = describe_difference(saved, here)
        warn(f"a saved state of this training is of {changes}; that gives other bits, so this one starts over")
    return here


def describe_difference(saved: Conditions, here: Conditions) -> str:
    """Name what differs, with both values."""
    return ", ".join(f"{name} {saved.get(name)} (here {here.get(name)})" for name in _differing(saved, here))


def _differing(saved: Conditions, here: Conditions) -> list[str]:
    return [name for name in {**here, **saved} if here.get(name) != saved.get(name)]


def newest_states(states: Path) -> Iterator[TrainerState]:
    """The last saved state of each training, newest first. States that cannot be read are skipped."""
    directories = [directory for path in states.glob("[!.]*") for directory in ResumeCheckpoint(path).saved()[:1]]
    for directory in sorted(directories, key=lambda path: path.stat().st_mtime, reverse=True):
        with suppress(UserError, OSError):
            yield read_state(directory)


def _count_threads(conditions: Conditions) -> str:
    threads = conditions["threads"]
    return f"{threads} thread" if threads == 1 else f"{threads} threads"


def _vector_units() -> str:
    """The vector units that PyTorch uses (`ATEN_CPU_CAPABILITY` can lower them), and those other libraries may use."""
    # PyTorch before 2.12 cannot say what a CPU has.
    capabilities: dict[str, bool | int | str] = getattr(torch.cpu, "get_capabilities", dict)()
    units = sorted(name for name, there in capabilities.items() if there is True and name.startswith(_VECTOR_UNITS))
    return ", ".join([torch.backends.cpu.get_cpu_capability(), *units])
