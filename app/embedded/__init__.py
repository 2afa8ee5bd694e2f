"""Postgres, Valkey and Attune's own processes under one supervisor: what `make run` starts on a bare machine."""
