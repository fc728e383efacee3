"""One training: its configuration, its steps, its files."""
