"""Stage `plot`: plot.png, report.md and report.html."""
