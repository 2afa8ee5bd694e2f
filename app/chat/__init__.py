"""Live chat: two to four replies of sampled policies side by side, blind; each choice is a comparison and a ranking."""
