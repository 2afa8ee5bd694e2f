"""Import and export: the file formats people have."""
