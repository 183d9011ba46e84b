"""TODO theria_lint/rules."""
