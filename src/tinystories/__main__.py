"""`python -m tinystories` is the command `tinystories`."""

import sys

from tinystories.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
