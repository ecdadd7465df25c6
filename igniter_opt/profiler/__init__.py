"""From a GPU to a profile."""
