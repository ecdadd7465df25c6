"""Models to profile: built in, from files, for export and for serving."""
