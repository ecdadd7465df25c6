"""What takes readings: a card, recordings, made-up cards."""
