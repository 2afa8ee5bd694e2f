"""Prompts, responses and the comparisons made of them."""
