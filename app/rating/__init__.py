"""The rater's desk: leases, drafts and rankings."""
