"""`make bench`: the rater's loop at all sizes."""

from benchmarks.rater_loop import main

main()
