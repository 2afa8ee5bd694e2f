"""Measurements: ratios against a peer, or figures with their conditions. `make bench` runs them."""
