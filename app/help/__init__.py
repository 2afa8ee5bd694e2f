"""The manual, served by the application: one page for each role."""
