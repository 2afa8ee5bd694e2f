"""What choices of the learning library are worth, on real preferences. `python -m benchmarks.studies`."""
