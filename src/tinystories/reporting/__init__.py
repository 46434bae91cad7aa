"""Stage `plot`: plot.png and report.md."""
