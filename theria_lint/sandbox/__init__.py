"""What a process that runs somebody's code may not do; one module for each thing that the kernel offers.

Everything here uses the standard library alone: it runs in the target's environment, where no library of ours can be
assumed. What a platform lacks is reported as absent, never as an error.
"""
