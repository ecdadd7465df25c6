"""Pictures and tables of plans and comparisons, and the page on a plan."""
