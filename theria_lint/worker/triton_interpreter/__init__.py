"""Triton kernels: what the interpreter lacks, and what keeps it from reading what is not there."""
