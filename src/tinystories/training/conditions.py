"""The conditions under which a training computes: what decides its bits besides parameters, stories and code.

Sums in another order are other bits. The order depends on the number of threads (PyTorch's sums, what torch.compile
makes of them, oneDNN's bf16 products), on the processor and its vector units, on the compiler, on whether the kernels
in C++ are there. So all of it is in a training's key. What was measured: docs/reproducibility.md.
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
from tinystories.training.resume import Progress, ResumeCheckpoint, read_state

# What the math libraries are told by their users decides bits as well.
_SETTINGS = ("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE")

Conditions = Mapping[str, str | int | bool | None]


def find_conditions(backend: Backend, head_size: int) -> Conditions:
    """The conditions of this process, by name. Compiles the kernels where the training is to use them."""
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
    found |= {name: os.environ[name] for name in _SETTINGS if name in os.environ}
    if backend.compiled and device.type == "cpu":
        found |= {"compiler": compiler(), "kernels": compile_kernels(head_size, backend.dtype)}
    return found


def use_threads(conditions: Conditions) -> None:
    """Let everything compute with as many threads as the conditions say, be there more cores or fewer."""
    threads = conditions.get("threads")
    if isinstance(threads, int):
        torch.set_num_threads(threads)


def conditions_to_resume(states: Path, training: str, here: Conditions) -> Conditions:
    """Choose the conditions under which the training goes on, or begins.

    A state under `states` of the same training that differs in the number of threads alone decides it: so many threads
    are used again, unless OMP_NUM_THREADS says otherwise. One that differs in anything else can only be gone on from
    where it was made. It is left as it is, which a warning says, and the training begins anew.
    """
    found = [saved.conditions for saved in _saved_trainings(states) if saved.training == training]
    if here in found:
        return here
    for there in found:
        differing = [name for name in {**here, **there} if here.get(name) != there.get(name)]
        if differing == ["threads"] and "OMP_NUM_THREADS" not in os.environ:
            info(
                f"This training was begun with {_count(there)}, and goes on so, for others would give other bits. "
                "To begin anew instead, set OMP_NUM_THREADS."
            )
            return there
        changes = ", ".join(f"{name} {there.get(name)} (here {here.get(name)})" for name in differing)
        warn(f"a saved state of this training is of {changes}; that gives other bits, so this one begins anew")
    return here


def _saved_trainings(states: Path) -> Iterator[Progress]:
    """Every training's last saved state, the newest first. One that cannot be read decides nothing."""
    directories = [directory for path in states.glob("[!.]*") for directory in ResumeCheckpoint(path).saved()[:1]]
    for directory in sorted(directories, key=lambda path: path.stat().st_mtime, reverse=True):
        with suppress(UserError, OSError):
            yield read_state(directory)


def _count(conditions: Conditions) -> str:
    threads = conditions["threads"]
    return f"{threads} thread" if threads == 1 else f"{threads} threads"


def _vector_units() -> str:
    """What PyTorch computes with (`ATEN_CPU_CAPABILITY` can lower it), and what the other libraries may find."""
    # PyTorch before 2.12 cannot say what a CPU has.
    has: dict[str, bool | int | str] = getattr(torch.cpu, "get_capabilities", dict)()
    units = sorted(name for name, there in has.items() if there is True and name.startswith(_VECTOR_UNITS))
    return ", ".join([torch.backends.cpu.get_cpu_capability(), *units])


_VECTOR_UNITS = ("avx", "amx", "fma", "sve", "sme", "bf16", "neon", "asimd")
