"""One GPU: numbers in, times out."""
