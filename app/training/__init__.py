"""Runs, their triggers, the snapshots they learn from and the model versions they leave."""
