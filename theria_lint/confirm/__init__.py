"""TODO confirm."""
