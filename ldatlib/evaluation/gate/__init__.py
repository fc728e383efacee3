"""One gate before every evaluator: it works, or one line says what is wrong and what to do."""
