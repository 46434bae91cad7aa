"""Stories as text files: the format, read and written."""
