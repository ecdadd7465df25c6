"""Sets of items on one GPU, in compiled code: exact set check, interference cells, pricing, local search."""
