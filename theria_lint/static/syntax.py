"""Whether a text is Python, and its tree."""

from __future__ import annotations

import ast
import warnings
from symtable import symtable

from .errors import SourceError


def parse(source: str) -> ast.Module:
    """The tree of a module; `SourceError` for whatever keeps Python from reading it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes and literals of the code that is read
            return ast.parse(source)
    except SyntaxError as error:
        raise SourceError(error.lineno, f"does not parse: {error.msg}") from None
    except (ValueError, UnicodeError) as error:
        raise SourceError(None, f"does not parse: {error}") from None
    except (RecursionError, MemoryError):
        raise SourceError(None, "does not parse: it is nested too deeply") from None


def parses(source: bytes | str) -> bool:
    """Whether a source is valid Python.

    Asked of the compiler's table of symbols, which takes half the time of a tree: no node becomes an object. The table
    refuses some of what has a tree (a parameter that is declared global), so its refusal is checked.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            symtable(source, "<file>", "exec")  # type: ignore[arg-type]  # bytes too, as compile() does
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return _has_tree(source)
    return True


def _has_tree(source: bytes | str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def syntax_check(source: str) -> None:
    """Raise `SourceError` if a file is not valid Python."""
    if not parses(source):
        parse(source)
