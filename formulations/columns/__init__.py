"""Parts of the pattern formulation: master, column generation, integer plans, proofs."""
