"""Shared by all stages: parameters, paths, files, messages, signals."""
