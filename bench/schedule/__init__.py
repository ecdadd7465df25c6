"""Plans over time: what they cost beside provisioning for the peak, solving each step afresh, and the greedy."""
