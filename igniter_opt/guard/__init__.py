"""The guard: watches a deployment's latencies and gives placements more share where predictions were wrong."""
