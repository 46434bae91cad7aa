"""Kill the pipeline at every kill point, and check that it ends as if it had never been stopped: `make torture`.

In chains: one repository is killed several times, the stage, DVC or both, then finished and compared with a reference
that ran undisturbed. After a kill this does what the README tells a user to do, and no more. Identical bits would hide
work that was done twice, so each trained step is counted too: none that had been saved may be trained again.
"""

import argparse
import itertools
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.kill_points import KILL_POINTS, Chain, Kill
from tests.support.repository import Repository, new_repository
from tests.support.troubles import TROUBLES, Trouble
from tinystories.sources import storygen

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TARGETS = ("stage", "group", "dvc")
COMMANDS: tuple[tuple[str, ...], ...] = (("repro",), ("exp", "run"), ("exp", "run", "--temp"))
KILLS_IN_A_CHAIN = 16


def plan(draw: random.Random) -> list[Kill | Trouble]:
    """List each kill point with each signal, and each trouble, in random order."""
    # `--temp` locks a repository of its own.
    kills: list[Kill | Trouble] = [Trouble(name, draw.choice(COMMANDS[:2])) for name in TROUBLES]
    for point in KILL_POINTS:
        for number in SIGNALS:
            # Without its own lines there is no stage to be found; and while one runs, DVC ignores SIGINT.
            targets = TARGETS[1:] if point.program == "dvc" else TARGETS[:2] if number == signal.SIGINT else TARGETS
            line = draw.randint(1, max(point.lines, 1))
            kills.append(Kill(point, number, draw.choice(targets), draw.choice(COMMANDS), line))
    draw.shuffle(kills)
    return kills


def run_chain(
    chain: Chain, kills: list[Kill | Trouble], draw: random.Random, expected: dict[str, Any]
) -> tuple[list[Kill | Trouble], Counter[str]]:
    """Kill, finish and compare. Returns those kills that hit, and how they ended; and `Chain.steps`."""
    hits: list[Kill | Trouble] = []
    name = chain.repository.path.name
    hit: Kill | Trouble | None
    for kill in in_order(kills, draw):
        if isinstance(kill, Kill):
            what = f"{kill.point.name:22} {kill.signal.name} to {kill.target} of dvc {' '.join(kill.command)}"
            hit = chain.kill(kill)
            came = f"{hit.seconds:5.1f} s {hit.place}" if hit else "missed"
        else:
            what = f"{kill.name:22} at the end of dvc {' '.join(kill.command)}"
            hit = chain.suffer(kill)
            came = "suffered" if hit else "missed"
        print(f"{name}: {what:72}", came, flush=True)
        hits += [hit] if hit else []
    try:
        chain.finish(draw.choice(COMMANDS))
        found = chain.repository.result()
        differing = [what for what in sorted(found.keys() | expected.keys()) if found.get(what) != expected.get(what)]
    except AssertionError as error:
        differing = [str(error)]
    steps = chain.steps()
    if steps["though saved"]:
        differing.append(count_of(steps))
    verdict = f"NOT identical: {', '.join(differing)}; see {chain.repository.path}" if differing else "identical"
    notes = {**chain.repaired, "traceback": chain.tracebacks()}
    repaired = "".join(f", {what} {times} x" for what, times in notes.items() if times)
    print(f"{name}: after {len(hits)} kills {verdict}{repaired}; {count_of(steps)}", flush=True)
    if not differing:
        shutil.rmtree(chain.repository.path)
    return [replace(hit, identical=not differing) for hit in hits], steps


def count_of(steps: Counter[str]) -> str:
    """Put the steps of one or more chains into words, see `Chain.steps`."""
    again = (
        f"{steps['again']:,} of them again as they had not been saved, {steps['though saved']:,} though they had been"
    )
    return f"{steps['trained']:,} steps trained, {again}"


def in_order(kills: list[Kill | Trouble], draw: random.Random) -> list[Kill | Trouble]:
    """Sort by the pipeline's order, so that all can hit one run of it; those on DVC itself anywhere between."""
    end = next(number for number, point in enumerate(KILL_POINTS) if point.name == "results written")

    def place(kill: Kill | Trouble) -> float:
        if isinstance(kill, Trouble):
            return end
        anywhere = kill.point.program == "dvc" and not kill.point.after
        return draw.uniform(0, len(KILL_POINTS)) if anywhere else KILL_POINTS.index(kill.point)

    places = [place(kill) for kill in kills]
    return [kills[number] for number in sorted(range(len(kills)), key=places.__getitem__)]


def campaign(pristine: Repository, wanted: int, seed: int, jobs: int) -> tuple[list[Kill | Trouble], Counter[str]]:
    """Kill `wanted` times in copies of a repository in which nothing has run, `jobs` of them at a time.

    Returns the kills that hit, and how many steps were trained, see `Chain.steps`.
    """
    reference, draw = pristine.copy(pristine.path.with_name("reference")), random.Random(seed)
    started = time.monotonic()
    reference.run("dvc", "repro")
    seconds, expected = time.monotonic() - started, reference.result()
    print(f"The reference took {seconds:.0f} s; to compare: {len(expected)} files and records", flush=True)
    done: list[Kill | Trouble] = []
    steps: Counter[str] = Counter()
    numbers = itertools.count(1)

    def one_chain(number: int, kills: list[Kill | Trouble]) -> tuple[list[Kill | Trouble], Counter[str]]:
        own_draw = random.Random(f"{seed} {number}")
        repository = pristine.copy(pristine.path.with_name(f"chain-{number}"))
        return run_chain(Chain(repository, own_draw, seconds), kills, own_draw, expected)

    with ThreadPoolExecutor(jobs) as pool:
        while len(done) < wanted:
            planned: list[Kill | Trouble] = []  # drawn again: for those that missed fewer lines may be left
            while len(planned) < wanted - len(done):
                planned += plan(draw)
            planned = planned[: wanted - len(done)]
            chains = [planned[first : first + KILLS_IN_A_CHAIN] for first in range(0, len(planned), KILLS_IN_A_CHAIN)]
            for hits, trained in pool.map(one_chain, numbers, chains):
                done += hits
                steps += trained
    return done, steps


def summary(done: list[Kill | Trouble], steps: Counter[str]) -> str:
    """Make a table: for each kill point and signal, and each trouble, how many ended identical of how many."""
    kills = [kill for kill in done if isinstance(kill, Kill)]
    lines = [f"{'identical of kills':22}" + "".join(f"{number.name:>10}" for number in SIGNALS)]
    for point in KILL_POINTS:
        cells = []
        for number in SIGNALS:
            these = [kill.identical for kill in kills if kill.point == point and kill.signal == number]
            cells.append(f"{sum(these)} of {len(these)}")
        lines.append(f"{point.name:22}" + "".join(f"{cell:>10}" for cell in cells))
    for name in TROUBLES:
        suffered = [one.identical for one in done if isinstance(one, Trouble) and one.name == name]
        lines.append(f"{name:22}{f'{sum(suffered)} of {len(suffered)}':>10}")
    stages = [kill for kill in kills if kill.point.program != "dvc" and kill.target != "dvc"]
    asked = [kill for kill in stages if kill.signal != signal.SIGKILL]
    if longest := max(asked, key=lambda kill: kill.seconds, default=None):
        lines.append(f"longest from SIGTERM or SIGINT to a stage's end: {longest.seconds:.1f} s, {longest.point.name}")
    lines.append(count_of(steps))
    lines.append(f"{sum(kill.identical for kill in done)} of {len(done)} kills and troubles ended identical")
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.support.torture", description=__doc__)
    options.add_argument("--kills", type=int, default=100)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--jobs", type=int, default=2, help="chains at once")
    chosen = options.parse_args()
    place = Path(tempfile.mkdtemp(prefix="torture-"))
    (place / "stories.txt").write_text("\n<|endoftext|>\n".join(storygen.stories(0, 0, 300)), encoding="utf-8")
    pristine = new_repository(
        place / "pristine",
        data__source="files",
        data__files__train=str(place / "stories.txt"),
        data__files__held_out=0.05,
        train__epochs=2,
        train__steps_per_epoch=100,
        train__save_every=0.05,
    )
    kills, steps = campaign(pristine, chosen.kills, chosen.seed, chosen.jobs)
    print(summary(kills, steps))
    if not all(kill.identical for kill in kills):
        sys.exit(1)
    shutil.rmtree(place)


if __name__ == "__main__":
    main()
