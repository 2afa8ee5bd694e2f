"""Demonstrations that raters write: a prompt in hand, a draft, what was sent, and its corrections."""
