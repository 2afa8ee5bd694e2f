"""People, roles, sessions, one-time links and API tokens."""
