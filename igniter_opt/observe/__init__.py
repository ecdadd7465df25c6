"""The observed world: what Prometheus knows of servers as input, and plans beside what is observed as metrics."""
