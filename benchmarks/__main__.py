"""`make bench`: the rater's loop at all sizes, then import and export."""

from benchmarks import exchange, rater_loop

rater_loop.main()
exchange.main()
