"""Plans whose neighbours are taken as they are: what might hold, what does, and what nothing can undercut."""
