"""TODO theria_lint/worker/shims."""
