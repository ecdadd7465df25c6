"""Plans that are sent more than they were made for."""
