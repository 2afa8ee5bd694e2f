"""Approval of policies by a second person, and the audit trail to read."""
