"""Which stories the tests of the generator look at."""

import re

SEED = 11
MANY = 20_000
SOME = 6_000
WORD = re.compile(r"[A-Za-z']+")
