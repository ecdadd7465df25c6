"""Plans on a real card with Triton: expected against measured."""
