"""Several cards of one host: a plan deployed, measured, changed under load, and guarded."""
