"""A checkpoint in the file formats of other programs."""
