"""The guard while its predictions are wrong."""
