"""Benchmark instances, GPU profiles and best known results, installed as package data."""
