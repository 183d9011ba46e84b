"""TODO theria_lint/sources."""
