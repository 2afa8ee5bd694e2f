"""The first page of operators and admins: the loop with its numbers. Reads every slice, is imported by none."""
