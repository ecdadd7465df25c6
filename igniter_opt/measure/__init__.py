"""Measuring latency and throughput of deployed servers under an open-loop load."""
