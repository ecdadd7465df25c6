"""Sweeps: an instance solved for many values of something that is varied, with plans and bounds carried along."""
