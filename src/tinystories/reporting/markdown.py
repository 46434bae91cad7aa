"""Markdown tables and literal text."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from tinystories.common.urls import redact


def escape(text: str) -> str:
    """One line of any text as Markdown that shows it literally. Escapes in it stay as they are."""
    text = re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]", " ", text).strip()
    text = re.sub(r"&(?!(?:lt|gt|amp|quot|#\d+);)", "&amp;", text)
    # Entities where some renderers know no backslash (MLflow's <) or treat it specially (GitHub's $).
    text = text.replace("<", "&lt;").replace("$", "&#36;")
    special = r"[\\`*\[\]|~>]|(?<!&)#|(?<![a-zA-Z0-9])_|_(?![a-zA-Z0-9])"  # an underscore within a word is no emphasis
    text = re.sub(rf"\\([!-/:-@\[-`{{-~])|({special})", lambda found: "\\" + (found[1] or found[2]), text)
    return re.sub(r"^(\d*)([-+=.)](?:\s|$|(?=[-=])))", r"\1\\\2", text)  # list items and underlined headings


def table(names: tuple[str, ...], rows: Iterable[tuple[str, ...]], align: Callable[[str, int], str] = str.ljust) -> str:
    """A Markdown table, every cell escaped and padded, so that it is readable as plain text."""
    cells = [[escape(cell) for cell in row] for row in (names, *rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(names))]
    rule = ["-" * (width - 1) + (":" if align == str.rjust else "-") for width in widths]
    head, *body = ["| " + " | ".join(map(align, row, widths)) + " |" for row in cells]
    return "\n".join([head, "| " + " | ".join(rule) + " |", *body])


def flatten(values: Any, key: str = "") -> list[tuple[str, str]]:
    """Every value in `values` as text by its dotted key, without the credentials in an address."""
    if isinstance(values, dict) and values:
        return [pair for name, value in values.items() for pair in flatten(value, f"{key}.{name}".lstrip("."))]
    if isinstance(values, list) and values:
        return [pair for index, value in enumerate(values) for pair in flatten(value, f"{key}.{index}")]
    if isinstance(values, str):
        return [(key, redact(values) or "(empty)")]
    return [(key, str(values) if values not in ({}, [], None) else "(none)")]
