"""What the records say, beside the paper's numbers: tables, figures, claims, widget, page."""
