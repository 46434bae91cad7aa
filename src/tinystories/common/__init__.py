"""What every stage uses: parameters, files, messages, paths."""
