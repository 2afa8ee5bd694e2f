"""JSON routes over the same services as the pages."""
