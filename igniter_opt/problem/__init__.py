"""The instance compiled for methods: configurations, dominance, costs, bounds, drafts."""
