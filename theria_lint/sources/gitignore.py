"""File patterns in the syntax of .gitignore: for ``.gitignore`` itself, ``exclude`` and ``per-file-ignores``.

The semantics are those of gitignore(5); ``tests/sources/test_patterns.py`` compares them with ``git check-ignore``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

# In a pattern: a star, `**/` for any folders, `**` at the end. Any other token matches one character, or is a slash.
_STAR, _FOLDERS, _REST = "*", "**/", "**"
_ANY_FOLDERS = "(?:[^/]*/)*?"
_CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\s",
    "upper": "A-Z",
    "xdigit": "0-9a-fA-F",
}


class GitignorePatterns:
    """Patterns in order, the last that matches a path decides."""

    def __init__(self, lines: Iterable[str]) -> None:
        parsed = [pattern for line in lines if (pattern := _parse_pattern(line)) is not None]
        # Neighbours of one sign are one alternation: a file costs two or three searches, not one a pattern.
        groups = groupby(parsed, key=lambda item: item[0])
        self._groups = [(negated, *_compile_group(list(group))) for negated, group in groups]

    def match_path(self, path: str, is_dir: bool = False) -> bool | None:
        """True if ``path`` (relative to the patterns, with ``/``) is ignored, False if re-included, None if unnamed."""
        for negated, files, directories in reversed(self._groups):
            expression = directories if is_dir else files
            if expression is not None and expression.fullmatch(path):
                return not negated
        return None

    def match_within(self, path: str) -> bool:
        """Whether ``path`` or a directory on the way to it is ignored."""
        parts = path.split("/")
        above = ("/".join(parts[:count]) for count in range(1, len(parts)))
        return any(self.match_path(directory, is_dir=True) for directory in above) or bool(self.match_path(path))


def _parse_pattern(line: str) -> tuple[bool, bool, str] | None:
    """(negated, only directories, regular expression) of a line; None for a blank, a comment or a broken pattern."""
    line = _strip_trailing_blanks(line.rstrip("\r\n"))
    if not line or line.startswith("#"):
        return None
    negated = line.startswith("!")
    body = line[1:] if negated else line
    only_directories = body.endswith("/")
    body = body[:-1] if only_directories else body
    if not body:
        return None
    try:
        expression = _translate_pattern(body)
        re.compile(expression)
    except (re.error, ValueError, KeyError):
        return None
    return negated, only_directories, expression


def _strip_trailing_blanks(line: str) -> str:
    """A line without the blanks at its end; one behind an odd number of backslashes stays."""
    bare = line.rstrip(" ")
    escaped = (len(bare) - len(bare.rstrip("\\"))) % 2 == 1
    return line[: len(bare) + 1] if escaped else bare


def _translate_pattern(body: str) -> str:
    """The expression of a pattern.

    What stands between two stars of a name, or between two ``**``, takes the first place that fits: whatever follows
    fits behind that place as well as behind a later one. So all but the last are atomic, and however many there are,
    a path is not looked at again and again.
    """
    anchored = "/" in body
    tokens = list(_iter_tokens(body[1:] if body.startswith("/") else body))
    first, *deeper = _split_tokens(tokens if anchored else [_FOLDERS, *tokens], _FOLDERS)
    out = [_translate_names(first)]
    out += [f"(?>{_ANY_FOLDERS}{_translate_names(names)})" for names in deeper[:-1]]
    out += [_ANY_FOLDERS + _translate_names(names) for names in deeper[-1:]]
    return "".join(out)


def _translate_names(tokens: list[str]) -> str:
    """The expression of names, with slashes between them, that hold no ``**/``."""
    return "/".join(map(_translate_name, _split_tokens(tokens, "/")))


def _translate_name(tokens: list[str]) -> str:
    if tokens == [_REST]:
        return ".+"
    first, *others = ("".join(piece) for piece in _split_tokens(tokens, _STAR))
    return first + "".join(f"(?>[^/]*?{piece})" for piece in others[:-1]) + "".join(f"[^/]*{p}" for p in others[-1:])


def _split_tokens(tokens: list[str], separator: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for token in tokens:
        if token == separator:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _iter_tokens(body: str) -> Iterator[str]:
    """The tokens of a pattern: `_STAR`, `_FOLDERS`, `_REST`, a slash, and expressions of one character."""
    at = 0
    while at < len(body):
        token, at = _read_token(body, at)
        yield token


def _read_token(body: str, at: int) -> tuple[str, int]:
    """The token at ``at``, and where the next one starts."""
    if body[at] == "*":
        end = at
        while end < len(body) and body[end] == "*":
            end += 1
        if end - at > 1 and (at == 0 or body[at - 1] == "/") and body[end : end + 1] in ("", "/"):
            return (_FOLDERS, end + 1) if end < len(body) else (_REST, end)
        return _STAR, end
    if body[at] == "?":
        return "[^/]", at + 1
    if body[at] == "[":
        return _read_bracket_expression(body, at + 1)
    if body[at] == "\\":
        return _read_escaped_character(body, at)
    return re.escape(body[at]) if body[at] != "/" else "/", at + 1


def _read_escaped_character(body: str, at: int) -> tuple[str, int]:
    """The character behind the backslash at ``at``."""
    if at + 1 == len(body):
        raise ValueError("a trailing backslash matches nothing")
    return re.escape(body[at + 1]) if body[at + 1] != "/" else "/", at + 2


def _read_bracket_expression(body: str, at: int) -> tuple[str, int]:
    """A bracket expression, from behind its bracket; ``]`` as the first member stands for itself."""
    negated = body[at : at + 1] in ("!", "^")
    at += negated
    members: list[str] = []
    before = ""  # the character that a hyphen would make a range of
    first = True
    while first or body[at : at + 1] != "]":
        first = False
        if body.startswith("[:", at) and (end := body.find("]", at + 2)) > at + 2 and body[end - 1] == ":":
            members.append(_CLASSES[body[at + 2 : end - 1]])
            before, at = "", end + 1
        elif body.startswith("-", at) and before and body[at + 1 : at + 2] not in ("", "]"):
            last, at = _read_member(body, at + 1)
            members += [f"{re.escape(before)}-{re.escape(last)}"] if before <= last else []
            before = ""
        else:
            before, at = _read_member(body, at)
            members.append(re.escape(before))
    inner = "".join(members)
    if not inner:
        return ("[^/]" if negated else "(?!)"), at + 1
    return f"(?!/)[{'^' if negated else ''}{inner}]", at + 1


def _read_member(body: str, at: int) -> tuple[str, int]:
    """The character at ``at`` of a bracket expression, and where the next one starts."""
    at += body.startswith("\\", at)
    if at >= len(body):
        raise ValueError("a bracket that is not closed matches nothing")
    return body[at], at + 1


def _compile_group(group: list[tuple[bool, bool, str]]) -> tuple[re.Pattern[str] | None, re.Pattern[str]]:
    """One expression for files (None if all patterns are for directories) and one for directories."""
    files = [expression for _, only_directories, expression in group if not only_directories]
    everything = [expression for _, _, expression in group]
    return re.compile("|".join(files), re.DOTALL) if files else None, re.compile("|".join(everything), re.DOTALL)
