"""`python -m benchmarks.gpu [--out FILE]`: every measurement for a machine with an NVIDIA GPU, in 8 minutes.

It needs PyTorch, NumPy and the few wheels of offline-requirements.txt; other packages only add peers. In
this order, each written to the file as soon as it is there: the whole reference run in a process of its own; whether
the GPU computes what the CPU does; speed, compared with peers; whether a step ever waits for the GPU.
`--device cpu --tiny` tries the program itself, anywhere.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import train_step as step_speed
from benchmarks.machine import synchronize
from benchmarks.results import Result, merge, result_file, table
from benchmarks.workload import ROOT, TINY_VOCABULARY, VOCABULARY, benchmark_params, zipf_tokens
from tinystories.common.reading import read_json
from tinystories.tokenization.token_files import TokenArray
from tinystories.training.backend import choose_backend
from tinystories.training.step import TrainStep

CHECKED_STEPS = 20
# Nats a token, the largest difference of any step's loss. In fp32 only the order of sums differs; bf16 has 8 bits.
ALLOWED = {"fp32": 0.01, "bf16": 0.05}
UNWATCHED_STEPS, WATCHED_STEPS = 10, 100


def reference_run(device: torch.device, tokens: Path | None, seconds: float, tiny: bool) -> Result:
    """Time the whole reference run in a fresh process with an empty cache of compiled code."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory, "run.json")
        command = [sys.executable, "-m", "benchmarks.reference_run", str(out), "--device", device.type]
        command += ["--budget", str(seconds), "--started", str(time.time())]
        command += ["--tokens", str(tokens.resolve())] if tokens else []
        command += ["--tiny"] if tiny else []
        caches = {name: str(Path(directory, name)) for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")}
        subprocess.run(command, cwd=ROOT, env={**os.environ, **caches}, check=True)
        return read_json(out)


def correctness(device: torch.device, tiny: bool) -> Result:
    """Compare losses of a few steps with those on the CPU in fp32, and two runs of one seed bit by bit."""
    reference, _ = _train(torch.device("cpu"), "fp32", "off", tiny)
    rows, same = [], {}
    for precision, allowed in ALLOWED.items():
        losses, tensors = _train(device, precision, "auto", tiny)
        again, tensors_again = _train(device, precision, "auto", tiny)
        difference = max(abs(a - b) for a, b in zip(reference, losses, strict=True))
        same[precision] = losses == again and all(torch.equal(tensors[n], tensors_again[n]) for n in tensors)
        rows.append(
            {
                "precision": precision,
                "first loss": round(losses[0], 5),
                "last loss": round(losses[-1], 5),
                "on the CPU": round(reference[-1], 5),
                "largest difference": round(difference, 6),
                "allowed": allowed,
                "passed": "yes" if difference <= allowed else "NO",
                "twice the same bits": "yes" if same[precision] else "no",
            }
        )
    return {
        "title": f"{CHECKED_STEPS} steps on {device.type} against the same on the CPU in fp32 (nats a token)",
        "columns": list(rows[0]),
        "rows": rows,
        "passed": all(row["passed"] == "yes" for row in rows),
    }


def _train(
    device: torch.device, precision: str, compiled: str, tiny: bool
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Return the loss of each step and the state at the end."""
    length = {"epochs": 1, "steps_per_epoch": CHECKED_STEPS, "warmup_steps": CHECKED_STEPS // 5, "cooldown": 0.2}
    train_step = _train_step(tiny, device=device.type, precision=precision, compile=compiled, **length)
    losses = []
    for step in range(CHECKED_STEPS):
        train_step.step(step)
        losses.append(train_step.loss_sum.item())
        train_step.loss_sum.zero_()
    return losses, {name: tensor.detach().clone() for name, tensor in train_step.state_dict().items()}


def waiting(device: torch.device, tiny: bool) -> Result:
    """Whether steps wait for the GPU, and how much time a step leaves to Python while the GPU computes."""
    train_step = _train_step(tiny, device=device.type)
    for step in range(UNWATCHED_STEPS):
        train_step.step(step)
    synchronize(device)
    found = "never"
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        start = time.perf_counter()
        for step in range(UNWATCHED_STEPS, UNWATCHED_STEPS + WATCHED_STEPS):
            train_step.step(step)
        handed_over = time.perf_counter() - start
    except RuntimeError as error:
        found, handed_over = f"yes: {str(error).splitlines()[0]}", float("nan")
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    synchronize(device)
    done = time.perf_counter() - start
    return {
        "title": f"{WATCHED_STEPS} steps: does one wait for the device?",
        "columns": ["waits", "ms/step in Python", "ms/step until done"],
        "rows": [
            {
                "waits": found if device.type == "cuda" else "always: it is the CPU",
                "ms/step in Python": round(1000 * handed_over / WATCHED_STEPS, 4) if found == "never" else None,
                "ms/step until done": round(1000 * done / WATCHED_STEPS, 4),
            }
        ],
    }


def _train_step(tiny: bool, **train: Any) -> TrainStep:
    params = benchmark_params(tiny, **train)
    vocab_size = TINY_VOCABULARY if tiny else VOCABULARY
    tokens: TokenArray = zipf_tokens(10_000 if tiny else 2_000_000, vocab_size)
    train_step = TrainStep(params, vocab_size, tokens, choose_backend(params, vocab_size))
    train_step.initialize()
    return train_step


def main() -> None:
    begin = time.monotonic()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON file to write; else one in benchmarks/results/")
    parser.add_argument("--tokens", type=Path, help="directory with train.bin, valid.bin and meta.json")
    parser.add_argument("--seconds", type=float, default=480, help="for all of it, about")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to test this program")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no CUDA device here")
    out: Path = options.out or result_file(device)

    seconds: float = options.seconds

    def left() -> float:
        return seconds - (time.monotonic() - begin)

    def done(part: str, result: Result) -> None:
        print(f"\n{table(result)}\n({seconds - left():.0f} s so far)", flush=True)
        merge(out, device, part, result)

    done("reference_run", reference_run(device, options.tokens, left() / 2, options.tiny))
    checked = correctness(device, options.tiny)
    done("correctness", checked)
    # Each peer's last variant may begin just before the time is over, and then there are the rounds.
    done("train_step", step_speed.measure(device, seconds=left() - 90, tiny=options.tiny))
    done("waiting", waiting(device, options.tiny))
    print(f"\nWritten: {out}")
    if not checked["passed"]:
        sys.exit("error: this device does not compute what the CPU does")


if __name__ == "__main__":
    main()
