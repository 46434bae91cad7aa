"""Documents out of the user's files: text, JSON lines, CSV and Parquet, compressed or not; what each looks like."""
