"""Pictures and tables of plans and comparisons."""
