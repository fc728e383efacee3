"""What the records say: tables, figures, claims, the widget, the page; beside the paper's numbers."""
