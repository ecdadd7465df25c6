"""Plans over time: one for every step of a demand curve, few moves between them, and a bound on the total cost."""
