"""TODO theria_lint/ablate."""
