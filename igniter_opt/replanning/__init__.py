"""From one plan to the next: what that disrupts, and in which order servers start and stop."""
