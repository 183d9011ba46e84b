"""Starts the recorder in every Python process of a recorded command, then what this file stands in front of."""


def _start() -> None:
    import importlib.util
    import json
    import os
    import sys

    here = os.path.dirname(os.path.abspath(__file__))
    root = os.path.dirname(os.path.dirname(os.path.dirname(here)))
    sys.path[:] = [place for place in sys.path if os.path.abspath(place or ".") != here]
    plan = os.environ.get("THERIA_LINT_RECORD")
    if plan:
        from importlib.machinery import PathFinder

        class Finder:
            @staticmethod
            def find_spec(name, path=None, target=None):  # type: ignore[no-untyped-def]
                return PathFinder.find_spec(name, [root]) if name in ("theria", "theria_lint") else None

        sys.meta_path.insert(0, Finder)
        from theria_lint.calls.recorder import CallRecorder

        with open(plan, encoding="utf-8") as file:
            CallRecorder(json.load(file)).install()
    found = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
    if found is not None and found.loader is not None:
        found.loader.exec_module(importlib.util.module_from_spec(found))


_start()
