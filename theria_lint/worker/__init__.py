"""The worker's side of the dynamic stage, run by the target's Python: import, call, probe.

Imports torch and theria; must not import libcst or click, which the target's environment may lack.
"""
