"""TODO theria_lint/static/prefilter."""
