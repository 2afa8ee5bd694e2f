"""Practice comparisons, the quiz before the first comparison, and who has done both."""
