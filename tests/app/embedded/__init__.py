"""Tests of the embedded servers and of the supervisor, with real processes."""
