"""Fast methods without bounds: iGniter and the baselines its authors compare with."""
