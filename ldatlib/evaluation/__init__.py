"""What is left of a network under attack, and whether to believe it."""
