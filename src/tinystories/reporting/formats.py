"""Numbers as text, short enough for titles and tables."""


def short_count(count: float) -> str:
    """A count with one decimal and a unit: `950`, `4.1 K`, `8.9 M`, `163.8 M`, `2 B`."""
    size, unit = next(((s, u) for s, u in ((1e9, " B"), (1e6, " M"), (1e3, " K")) if count >= s), (1, ""))
    return f"{count / size:.1f}".removesuffix(".0") + unit


def format_perplexity(value: float) -> str:
    """A perplexity with two decimals, from ten million on with a power of ten."""
    return f"{value:,.2f}" if value < 1e7 else f"{value:.2e}"
