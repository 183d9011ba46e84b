"""Finds by running how a target wants to be called: arguments, layout, sizes, dtype."""
