"""Rules: loaded from data, and explained.

`loader` reads and validates ``rules/<id>-<name>/rule.toml``, `explain` renders a rule as Markdown, `pages` writes
``docs/rules/``. The logic that a rule names in ``detector`` is in ``static/detectors``.
"""
