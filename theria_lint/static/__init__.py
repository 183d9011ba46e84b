"""TODO static."""
