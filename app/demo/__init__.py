"""The demo: a concierge's small world, its oracle, and simulated raters."""
