"""What the fitted coefficients err by, per card and with margins."""
