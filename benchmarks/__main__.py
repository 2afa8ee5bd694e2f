"""`make bench`: the rater's loop at all sizes, import and export, then the learning library beside TRL."""

import sys

from benchmarks import exchange, rater_loop
from benchmarks.learning.__main__ import main as learning

rater_loop.main()
exchange.main()
sys.argv = sys.argv[:1]
sys.exit(learning())
