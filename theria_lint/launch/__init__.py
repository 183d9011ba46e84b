"""Commands that run code by the user's own word, with the user's interpreter and outside the sandbox.

record_command runs a command of the user's and keeps how it calls what is linted; diagnose_command runs a function that
builds a model, in the user's Python with our packages beside theirs, and prints what part of it is not twice
differentiable; pytest_plugin does the first in a test run.
"""
