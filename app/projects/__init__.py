"""A project's settings, its templates and its members."""
