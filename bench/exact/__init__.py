"""Exact methods, heuristics and CP-SAT on the same instances."""
