"""TODO theria_lint/suppress."""
