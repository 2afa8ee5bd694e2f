"""The demo: a small world of its own, with simulated raters."""
