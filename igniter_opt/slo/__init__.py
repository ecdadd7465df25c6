"""What an SLO rule asks of a placement."""
