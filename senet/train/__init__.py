"""Training: the loop, the objectives it drives, what it logs."""
