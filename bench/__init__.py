"""Reproducible benchmarks; run from the repository's root, each writes a dated table to ``bench/results/``."""
