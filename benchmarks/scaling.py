"""Loss against tokens of both recipes, with a fit and what it foretells for the reference run: a picture and a table.

    python -m benchmarks.scaling [--results FILE] [--out docs/images/scaling.png]

The fit is L(N) = floor + scale * N**-exponent (Hoffmann et al. 2022, arXiv 2203.15556, with the parameters fixed). Each
length is a training of its own, with its own cooldown, at the best rate of its recipe. The interval is the 5th to 95th
percentile of fits to losses drawn again, each with the spread that the seeds of its length have. It knows nothing of
the form being wrong, nor of stories seen again: what it foretells is an extrapolation.

A fit whose floor is 0 foretells nothing: the loss still falls as fast as a straight line in logarithms or faster, so
the lengths are too short to see where it ends. A length with one seed is not fitted, but compared with the fit.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from numpy.typing import NDArray

from benchmarks.quality import LADDERS, results_file
from benchmarks.quality_table import best_rate, groups_of, read_rows
from benchmarks.results import table
from benchmarks.stories import prepare_stories
from tinystories.common.errors import UserError

TOKENS = 163_840_000  # of the reference run
DRAWS = 1_000
SHOWN = {"ours": "ours", "gpt2": "GPT-2 style, AdamW"}

Floats = NDArray[np.float64]
# Of a recipe: the tokens of each length, and there the loss of each seed, in nats a token.
Points = tuple[list[float], list[list[float]]]


class Fit(NamedTuple):
    """L(N) = floor + scale * N**-exponent, in nats a token."""

    floor: float
    scale: float
    exponent: float

    def loss(self, tokens: Floats) -> Floats:
        """The loss after so many tokens. Shapes: (points,) -> (points,)."""
        return self.floor + self.scale * tokens**-self.exponent


def fit(tokens: Sequence[float], losses: Sequence[float]) -> Fit:
    """Fit by least squares of the loss, for each floor of a grid by a straight line in logarithms first.

    Errors: UserError for fewer than three lengths.
    """
    if len(set(tokens)) < 3:
        raise UserError(f"a fit needs three lengths; found {len(set(tokens))}")
    n, loss = np.asarray(tokens, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    floors = np.linspace(0, loss.min() * 0.999, 400)[:, None]
    x, y = np.log(n) - np.log(n).mean(), np.log(loss - floors)
    slope = (x * y).sum(1) / (x**2).sum()
    scale = np.exp(y.mean(1) - slope * np.log(n).mean())
    misses = ((floors + scale[:, None] * n ** slope[:, None] - loss) ** 2).sum(1)
    best = int(misses.argmin())
    return Fit(float(floors[best, 0]), float(scale[best]), float(-slope[best]))


def foretell(tokens: Sequence[float], losses: Sequence[Sequence[float]], at: float) -> tuple[float, float, float]:
    """Return the loss that the fit gives for `at` tokens, and an interval of nine in ten. `losses`: of each seed."""
    generator = np.random.default_rng(0)
    means = [statistics.fmean(seeds) for seeds in losses]
    errors = [statistics.stdev(seeds) / len(seeds) ** 0.5 for seeds in losses]
    point = np.asarray([at], dtype=np.float64)
    drawn = [fit(tokens, generator.normal(means, errors).tolist()).loss(point)[0] for _ in range(DRAWS)]
    low, high = np.percentile(drawn, [5, 95])
    return float(fit(tokens, means).loss(point)[0]), float(low), float(high)


def measured(path: Path) -> dict[str, Points]:
    """The points of each recipe, at its best rate for each length."""
    groups = groups_of(read_rows(path), "valid", "reference")
    found: dict[str, Points] = {}
    for recipe in LADDERS:
        chosen = [best_rate(groups, steps, recipe, "valid_loss") for steps in sorted({steps for steps, _ in groups})]
        chosen = [rows for rows in chosen if rows]
        losses = [[float(row["valid_loss"]) for row in rows] for rows in chosen]
        found[recipe] = [float(rows[0]["tokens"]) for rows in chosen], losses
    return found


def fitted(points: Points) -> Points:
    """Those with at least two seeds, whose spread is known."""
    several = [(length, seeds) for length, seeds in zip(*points, strict=True) if len(seeds) > 1]
    return [length for length, _ in several], [seeds for _, seeds in several]


def draw(found: dict[str, Points], path: Path) -> None:
    """Draw the points of all seeds, the fits, and the interval at the reference run's length."""
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for color, (recipe, points) in zip(("#1f77b4", "#d62728"), found.items(), strict=False):
        tokens, losses = fitted(points)
        curve = fit(tokens, [statistics.fmean(seeds) for seeds in losses])
        along = np.geomspace(tokens[0], tokens[-1], 100)
        axes.plot(along, curve.loss(along), color=color, linewidth=1.2)
        for length, seeds in zip(*points, strict=True):
            axes.plot(
                [length] * len(seeds), seeds, "o", color=color, markersize=4, mfc=color if len(seeds) > 1 else "w"
            )
        name = f"{SHOWN[recipe]}: {curve.scale:.3g} N^-{curve.exponent:.2f}"
        if curve.floor:
            name = f"{SHOWN[recipe]}: {curve.floor:.2f} + {curve.scale:.3g} N^-{curve.exponent:.2f}"
            beyond = np.geomspace(tokens[-1], TOKENS, 100)
            axes.plot(beyond, curve.loss(beyond), color=color, linestyle=":", linewidth=1.2)
            point, low, high = foretell(tokens, losses, TOKENS)
            interval = [[point - low], [high - point]]
            axes.errorbar([TOKENS], [point], interval, color=color, capsize=4, fmt="D", mfc="white")
        axes.plot([], [], "o-", color=color, markersize=4, linewidth=1.2, label=name)
    axes.set(xscale="log", xlabel="tokens", ylabel="validation loss, nats a token")
    axes.set_title("Points: measured, each seed (open: one seed, not fitted). Dotted: extrapolated", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def measure(path: Path) -> dict[str, Any]:
    """The table: {"title", "columns", "rows", "notes"}. Errors: UserError where too little was measured."""
    rows = []
    for recipe, points in measured(path).items():
        tokens, losses = fitted(points)
        if len(tokens) < 3:
            raise UserError(f"{path}: {recipe} has {len(tokens)} lengths with two seeds; a fit needs three")
        curve = fit(tokens, [statistics.fmean(seeds) for seeds in losses])
        foretold = "not foretold"
        if curve.floor:
            point, low, high = foretell(tokens, losses, TOKENS)
            foretold = f"{point:.2f} ({low:.2f} to {high:.2f})"
        rows.append(
            {
                "recipe": recipe,
                "lengths": ", ".join(f"{length / 1e6:.2f} M" for length in tokens),
                "floor": round(curve.floor, 3),
                "scale": round(curve.scale, 3),
                "exponent": round(curve.exponent, 3),
                "at 163.84 M tokens": foretold,
                "one seed, not fitted": "; ".join(
                    f"{length / 1e6:.2f} M: {curve.loss(np.asarray([length]))[0]:.3f} foretold, {seeds[0]:.3f} measured"
                    for length, seeds in zip(*points, strict=True)
                    if len(seeds) == 1
                ),
            }
        )
    notes = ["In brackets: nine in ten of the fits to losses with the seeds' spread. An extrapolation."]
    return {"title": "Loss against tokens: floor + scale * N^-exponent", "rows": rows, "notes": notes}


def main() -> None:
    """The command line; see the module's own text."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description="Loss against tokens.")
    parser.add_argument("--results", type=Path, help="the file of rows")
    parser.add_argument("--out", type=Path, default=Path("docs/images/scaling.png"), help="the picture")
    args = parser.parse_args()
    path = args.results or results_file(prepare_stories())
    print(table(measure(path)))
    draw(measured(path), args.out)
    print(f"Written: {args.out}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
