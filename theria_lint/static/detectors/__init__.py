"""The detectors, one module a rule: ``static.scan`` has the table of them, by the name a rule gives in ``detector``.

A detector takes a `ModuleView` and a `Rule` and yields hits. It knows nothing of the prefilter.
"""
