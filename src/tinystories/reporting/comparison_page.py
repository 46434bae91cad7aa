"""compare.html: several runs in one page for a browser, made like report.html: closed, self-contained, literal."""

from pathlib import Path
from typing import Any

import numpy as np

from tinystories.common.console import plural
from tinystories.common.files import write_text
from tinystories.reporting.chart import dots, line, loss_scale, marks, token_marks
from tinystories.reporting.comparison import Comparison
from tinystories.reporting.comparison_figure import COLOURS, DASHES
from tinystories.reporting.html_report import page_asset, page_environment
from tinystories.reporting.scale import loss_range, loss_ticks, perplexity_ticks
from tinystories.reporting.series import Array, decimate, smooth

MAX_POINTS = 400  # of a run's line, so that the page of many long runs stays small


def write_comparison_page(comparison: Comparison, target: Path) -> None:
    """Write the page."""
    page = (
        page_environment()
        .get_template("compare.html")
        .render(
            title=plural(len(comparison.entries), "training"),
            comparison=comparison,
            classes=[
                f"c{number % len(COLOURS)} d{number // len(COLOURS) % len(DASHES)}"
                for number in range(len(comparison.entries))
            ],
            chart=_chart(comparison),
            style=page_asset("report.css", "compare.css"),
            script=page_asset("tip.js", "compare.js"),
        )
    )
    write_text(target, page)


def _chart(comparison: Comparison) -> dict[str, Any] | None:
    """Ticks, a path of the training and one of the validation losses for each run, and the numbers for the script."""
    lines: list[tuple[Array, Array]] = []  # tokens and losses
    scores: list[tuple[Array, Array]] = []
    for entry in comparison.entries:
        tokens, loss = np.array(entry.run.losses or np.empty((0, 2))).T
        smoothed = smooth(loss)
        kept = decimate(smoothed, MAX_POINTS)
        lines.append((tokens[kept], smoothed[kept]))
        points = np.array([score[:2] for score in entry.run.scores] or np.empty((0, 2))).T
        scores.append((points[0], points[1]))
    drawn = [*lines, *scores]
    if not any(len(tokens) for tokens, _ in drawn):
        return None
    end = max(float(tokens.max()) for tokens, _ in drawn if len(tokens)) or 1.0
    low, high = loss_range(np.concatenate([losses for _, losses in drawn]))
    down = loss_scale(low, high)
    return {
        "loss_ticks": marks(loss_ticks(low, high), down),
        "perplexity_ticks": marks(perplexity_ticks(low, high), down),
        "token_ticks": token_marks(end),
        "runs": [
            (line(tokens / end, down(losses)) if len(tokens) else "", dots(seen / end, down(scored)))
            for (tokens, losses), (seen, scored) in zip(lines, scores, strict=True)
        ],
        "data": {
            "end": end,
            "losses": [low, high],
            "runs": [
                {
                    "name": entry.name,
                    "train": [[int(at), round(loss, 4)] for at, loss in zip(*line_, strict=True)],
                    "valid": [[int(score.tokens), round(score.loss, 4)] for score in entry.run.scores],
                }
                for entry, line_ in zip(comparison.entries, lines, strict=True)
            ],
        },
    }
