"""`make bench`: the rater's loop at all sizes, then the learning library beside TRL."""

import sys

from benchmarks import rater_loop
from benchmarks.learning.__main__ import main as learning

rater_loop.main()
sys.argv = sys.argv[:1]
sys.exit(learning())
