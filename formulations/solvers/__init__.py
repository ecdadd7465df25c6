"""Solvers of integer programs that the `assignment` formulation can be handed to: a row of `table` and a file each."""
