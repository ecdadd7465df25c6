"""Rehearsing a plan: real Triton servers whose models only take their time."""
