"""Any model under everything that is here; ``examine.examine`` makes the record."""
