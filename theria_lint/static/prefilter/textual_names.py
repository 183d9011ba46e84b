"""Resolve names in masked text: find a word, and whether it may mean one of the listed names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property

from theria_lint.sources.source_text import find_statement_end

_TEXT = re.compile(
    r"#[^\n]*"
    r'|"""[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*"""'
    r"|'''[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*'''"
    r'|"[^"\\\n]*(?:\\.[^"\\\n]*)*"'
    r"|'[^'\\\n]*(?:\\.[^'\\\n]*)*'",
    re.DOTALL,
)


def mask_source(source: str) -> str:
    """Blank the strings and comments of a source; every other character keeps its offset."""
    return _TEXT.sub(_blank_match, source)


def _blank_match(match: re.Match[str]) -> str:
    text = match[0]
    if "\n" in text:
        return "\n".join([" " * len(line) for line in text.split("\n")])
    return " " * len(text)


_IMPORT = re.compile(r"import[ \t]*(\([^)]*\)|[^(\n\\]*(?:\\\r?\n?[^(\n\\]*)*)")
_RENAMING = re.compile(r" as(?= (\w+))")
_MODULE = re.compile(r"from[\s\\]+[\w. \t]*?(\w*)[\s\\]*$")
_OWNER = re.compile(r"(?<!\w)(\w+)[\s\\)]*\.[\s\\]*$")
_ASSIGNED = re.compile(r"[ \t]*=[ \t]*([A-Za-z_][\w.]*)(?:[ \t]*(?:\n|;|$)|[ \t]+(if\b|or\b))")
_PATH = re.compile(r"(?<![\w.])[A-Za-z_][\w.]*")
_CONSTANTS = ("None", "True", "False")
# As far back as the owner of a word or of a member, or the module of an import, is looked for.
NEAR = 120
_SPACE = " \t\r\n\\"


def find_word(text: str, word: str) -> Iterator[int]:
    """Where a text holds a word on its own. A search of the string: most words are looked for once or twice."""
    start = text.find(word)
    while start >= 0:
        end = start + len(word)
        if not _is_word_character(text[start - 1 : start]) and not _is_word_character(text[end : end + 1]):
            yield start
        start = text.find(word, end)


def find_member(text: str, word: str) -> Iterator[int]:
    """Where a text holds a word behind a dot: ``x.word``, ``x. word``."""
    for start in find_word(text, word):
        before = text[start - 1 : start]
        if before == "." or (before in _SPACE and text[max(0, start - NEAR) : start].rstrip(_SPACE).endswith(".")):
            yield start


def _is_word_character(character: str) -> bool:
    return character.isalnum() or character == "_"


class TextualNames:
    """What the words of one masked module can mean, as far as its text tells: never less than its tree."""

    def __init__(self, masked: str) -> None:
        self._masked = masked
        self._aliases: dict[tuple[str, frozenset[str]], bool] = {}
        self._bound: dict[tuple[str, frozenset[str]], bool] = {}
        self._held: dict[frozenset[str], bool] = {}

    def may_mean(self, start: int, word: str, owners: frozenset[str]) -> bool:
        """Whether the word at ``start`` stands behind one of its owners, or an alias of one, or is bound by itself."""
        masked = self._masked
        if owners not in self._held:
            self._held[owners] = any(owner in masked for owner in owners)
        if not self._held[owners]:
            return False
        near = masked[max(0, start - NEAR) : start]
        if not near.rstrip(_SPACE).endswith("."):
            return self._is_bound(word, owners)
        owner = _OWNER.search(near)
        return owner is not None and self._names_owner(owner[1], owners)

    def _is_alias(self, name: str, owners: frozenset[str]) -> bool:
        key = name, owners
        if key not in self._aliases:
            self._aliases[key] = False  # of a name that is assigned to itself
            self._aliases[key] = self._is_renamed_by_import(name, owners) or self._is_assigned_from(name, owners)
        return self._aliases[key]

    def _is_renamed_by_import(self, name: str, owners: frozenset[str]) -> bool:
        """Whether an import may give an owner this name."""
        return any(names.endswith(tuple(owners), 0, end) for names, end in self._renamed.get(name, ()))

    @cached_property
    def _renamed(self) -> dict[str, list[tuple[str, int]]]:
        """By new name: the import statements that give it, and where in them the old name ends."""
        renamed: dict[str, list[tuple[str, int]]] = {}
        for _, names in self._imported:
            for found in _RENAMING.finditer(names):
                renamed.setdefault(found[1], []).append((names, found.start()))
        return renamed

    @cached_property
    def _imported(self) -> list[tuple[str, str]]:
        """What each import statement says in front of ``import``, and behind it, with single blanks between words."""
        masked = self._masked
        return [
            (masked[max(0, found.start() - NEAR) : found.start()], " ".join(found[1].replace("\\", " ").split()))
            for found in _IMPORT.finditer(masked)
        ]

    def _is_assigned_from(self, name: str, wanted: frozenset[str], owners: frozenset[str] | None = None) -> bool:
        """Whether one of the wanted names may be assigned to this one: bare, behind one of ``owners``, or an alias."""
        for start in self._iter_assigned_places(name):
            found = _ASSIGNED.match(self._masked, start)
            if found is not None and any(
                self._stands_for(path, wanted, owners) for path in self._list_assigned_paths(found)
            ):
                return True
        return False

    def _iter_assigned_places(self, name: str) -> Iterator[int]:
        """Where an equals sign, or blanks before one, follow a name that is no attribute."""
        masked = self._masked
        for needle in (name,) if self._is_spaced else (f"{name} =", f"{name}="):
            start = masked.find(needle)
            while start >= 0:
                before = masked[start - 1 : start]
                if before != "." and not _is_word_character(before):
                    yield start + len(name)
                start = masked.find(needle, start + 1)

    @cached_property
    def _is_spaced(self) -> bool:
        """Whether anything but a single blank may stand before an equals sign."""
        return "  =" in self._masked or "\t=" in self._masked

    def _list_assigned_paths(self, assigned: re.Match[str]) -> list[str]:
        """The dotted names that an assignment may bind: its value, or either arm of a choice."""
        if not assigned[2]:
            return [assigned[1]]
        end = find_statement_end(self._masked, assigned.start())
        return _PATH.findall(self._masked, assigned.start(1), end)

    def _stands_for(self, path: str, wanted: frozenset[str], owners: frozenset[str] | None) -> bool:
        *before, last = path.split(".")
        if not before:
            return last not in _CONSTANTS and (last in wanted or self._is_alias(last, wanted))
        return last in wanted and (owners is None or self._names_owner(before[-1], owners))

    def _names_owner(self, name: str, owners: frozenset[str]) -> bool:
        return name in owners or self._is_alias(name, owners)

    def _is_bound(self, word: str, owners: frozenset[str]) -> bool:
        """Whether the module may bind the word itself: by an import, or by an assignment."""
        key = word, owners
        if key not in self._bound:
            bound = self._is_imported_from(word, owners) or self._is_assigned_from(word, frozenset([word]), owners)
            self._bound[key] = bound or any(names.startswith("*") for _, names in self._imported)
        return self._bound[key]

    def _is_imported_from(self, word: str, owners: frozenset[str]) -> bool:
        for before, names in self._imported:
            if word in names and any(True for _ in find_word(names, word)):
                module = _MODULE.search(before)
                if module is not None and module[1] in owners:
                    return True
        return False
