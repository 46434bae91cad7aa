"""A checkpoint for other programs: llama.cpp's file format, and its server."""
