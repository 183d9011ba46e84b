"""Attention that is twice differentiable, and the probes that tell whether yours is."""
