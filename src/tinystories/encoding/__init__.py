"""Stage `tokenize_to_memmap`: stories to token files."""
