"""Where servers run: one file for each backend."""
