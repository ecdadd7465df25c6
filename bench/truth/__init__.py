"""Every SLO rule under random arrivals."""
