"""Attention that is twice differentiable inside other libraries: one module a library, imported by its user."""
