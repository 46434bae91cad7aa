"""Numbers as text."""

from tinystories.reporting.formats import format_perplexity, short_count


def test_short_count_has_one_decimal_and_a_unit():
    assert [short_count(n) for n in (0, 950, 4096, 8_912_345, 163_840_000, 2e9)] == [
        *("0", "950", "4.1 K", "8.9 M", "163.8 M", "2 B")
    ]


def test_format_perplexity_is_short():
    assert [format_perplexity(value) for value in (3.14159, 1234567.891, 1e68)] == ["3.14", "1,234,567.89", "1.00e+68"]
