"""`make bench`: the rater's loop at all sizes, what a rater sees of it, import and export, then the learning library beside TRL."""

import sys

from benchmarks import exchange, painted, rater_loop
from benchmarks.learning.__main__ import main as learning

rater_loop.main()
painted.main()
exchange.main()
sys.argv = sys.argv[:1]
sys.exit(learning())
