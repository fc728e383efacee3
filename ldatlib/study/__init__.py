"""From a profile to trained networks and records, each computed once and found again."""
