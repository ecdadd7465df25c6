"""A module that cannot be imported: the mistake is the user's, not one of a missing package."""

raise ValueError("no licence\nfound")
