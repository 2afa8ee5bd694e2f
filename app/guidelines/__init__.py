"""Numbered guideline editions and their acknowledgement."""
