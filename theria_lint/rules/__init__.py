"""Rules: loaded from data, and explained.

`loader` reads and validates ``rules/<id>-<name>/rule.toml``, `pages` renders a rule as Markdown, with an example
of its folder, and writes ``docs/rules/``. The logic that a rule names in ``detector`` is in ``static/detectors``.
"""
