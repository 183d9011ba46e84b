"""Find the files to lint: the given paths, directories walked, excluded and ignored files left out."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from theria_lint.config import Settings
from theria_lint.errors import UserError

if TYPE_CHECKING:
    from theria_lint.errors import ReadError
    from theria_lint.sources.gitignore import GitignorePatterns

SUFFIXES = (".py", ".ipynb")
# Of an ignore file, and of all in a run: nobody writes longer ones by hand. A megabyte takes ten seconds to compile.
_LARGEST_PATTERNS = 256 * 1024
_MOST_PATTERNS = 1024 * 1024

# Directories that hold nobody's own code. Virtual environments are known by their pyvenv.cfg.
SKIPPED_DIRECTORIES = frozenset(
    {
        *("__pycache__", "__pypackages__", ".direnv", ".eggs", ".ipynb_checkpoints", ".nox", ".tox", ".venv"),
        *(".bzr", ".git", ".hg", ".svn", ".mypy_cache", ".pytest_cache", ".ruff_cache"),
        *("dist", "node_modules", "site-packages"),
    }
)


class Discovery:
    """The files, sorted, relative to the working directory; directories that could not be listed, with the reason.

    ``excluded`` are named files that are left out, ``outside`` links to files outside the directory that was named.
    ``unread`` are the ignore files that are not read, with the reason, ``pattern_bytes`` the size of those that are.
    """

    def __init__(self) -> None:
        self.files: list[str] = []
        self.unlisted: list[tuple[str, str]] = []
        self.pattern_bytes = 0
        self.excluded: list[str] = []
        self.outside: list[str] = []
        self.unread: list[tuple[str, ReadError]] = []


def discover_files(paths: Sequence[str], settings: Settings, given: Collection[str] = ()) -> Discovery:
    """Files named in ``paths``, and Python files and notebooks in the directories among them.

    A named file is taken whatever its suffix and whatever .gitignore says, but not against ``exclude``; those in
    ``given`` (relative to the working directory) need not exist. Links to directories are not followed, nor links that
    lead out of the directory that was named. Raises UserError for a path that does not exist.
    """
    found = Discovery()
    exclude = _compile_exclude(settings)
    files: set[str] = set()
    for path in paths:
        if path not in given and os.path.isdir(path):
            files.update(_DirectoryWalk(path, settings, exclude, found).iter_files())
            continue
        if path not in given:
            _check_is_file(path)
        excluded = exclude is not None and exclude.match_within(_make_relative(path, settings.root))
        (found.excluded.append if excluded else files.add)(_make_relative(path, os.getcwd()))
    found.files = sorted(files)
    return found


def _check_is_file(path: str) -> None:
    if not os.path.exists(path):
        raise UserError(f"{path}: no such file or directory.")
    if not os.path.isfile(path):
        raise UserError(f"{path}: is not a file; pass files, directories, or - for standard input.")


def _compile_exclude(settings: Settings) -> GitignorePatterns | None:
    if not settings.exclude:
        return None
    from theria_lint.sources.gitignore import GitignorePatterns  # a run without patterns compiles none

    return GitignorePatterns(settings.exclude)


def _make_relative(path: str, start: str) -> str:
    return os.path.relpath(path, start).replace(os.sep, "/")


class _DirectoryWalk:
    """One directory tree, depth first."""

    def __init__(self, top: str, settings: Settings, exclude: GitignorePatterns | None, found: Discovery) -> None:
        self._top = os.path.abspath(top)
        self._inside = os.path.join(os.path.realpath(top), "")
        self._root = settings.root
        self._exclude = exclude
        self._gitignore = settings.respect_gitignore
        self._found = found

    def iter_files(self) -> Iterator[str]:
        """Paths relative to the working directory."""
        start = _make_relative(self._top, os.getcwd())
        prefix = "" if start == "." else start + "/"
        rules = _read_rules_above(self._top, self._found) if self._gitignore else []
        for path in self._walk_directory(self._top, rules):
            yield prefix + path[len(self._top.rstrip(os.sep)) + 1 :].replace(os.sep, "/")

    def _walk_directory(self, directory: str, rules: list[tuple[str, GitignorePatterns]]) -> Iterator[str]:
        stack = [(directory, rules)]
        while stack:
            directory, rules = stack.pop()
            entries = self._list_directory(directory)
            names = {entry.name for entry in entries}
            if "pyvenv.cfg" in names and directory != self._top:
                continue
            if self._gitignore and ".gitignore" in names:
                rules = [*rules, *_read_rules_in(directory, ".gitignore", self._found)]
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in SKIPPED_DIRECTORIES and not self._is_left_out(entry.path, True, rules):
                        stack.append((entry.path, rules))
                elif (
                    entry.name.endswith(SUFFIXES)
                    and _is_file(entry)
                    and not self._is_left_out(entry.path, False, rules)
                ):
                    if self._leads_outside(entry):
                        self._found.outside.append(_make_relative(entry.path, os.getcwd()))
                    else:
                        yield entry.path

    def _leads_outside(self, entry: os.DirEntry[str]) -> bool:
        """Whether an entry is a link to a file that nobody has named."""
        return entry.is_symlink() and not os.path.realpath(entry.path).startswith(self._inside)

    def _list_directory(self, directory: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(directory) as entries:
                return list(entries)
        except OSError as error:
            self._found.unlisted.append((_make_relative(directory, os.getcwd()), error.strerror or str(error)))
            return []

    def _is_left_out(self, path: str, is_dir: bool, rules: list[tuple[str, GitignorePatterns]]) -> bool:
        if self._exclude is not None and self._exclude.match_path(_make_relative(path, self._root), is_dir):
            return True
        return _is_ignored(path, is_dir, rules)


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether a name leads to a file; links that lead nowhere or in a circle do not."""
    try:
        return entry.is_file()
    except OSError:
        return False


def _is_ignored(path: str, is_dir: bool, rules: list[tuple[str, GitignorePatterns]]) -> bool:
    """What git says: the deepest ignore file that names the path decides."""
    for base, patterns in reversed(rules):
        verdict = patterns.match_path(path[len(base) + 1 :].replace(os.sep, "/"), is_dir)
        if verdict is not None:
            return verdict
    return False


def _read_rules_in(directory: str, name: str, found: Discovery) -> list[tuple[str, GitignorePatterns]]:
    """The patterns of an ignore file; as for git, a link is none."""
    from theria_lint.errors import ReadError
    from theria_lint.sources.gitignore import GitignorePatterns
    from theria_lint.sources.source_text import read_up_to

    path = os.path.join(directory, name)
    if os.path.islink(path) or not os.path.exists(path):
        return []
    try:
        data = read_up_to(_LARGEST_PATTERNS, path)
        if found.pattern_bytes + len(data) > _MOST_PATTERNS:
            raise ReadError("too_many_patterns", largest=_MOST_PATTERNS)
        found.pattern_bytes += len(data)
        text = data.decode("utf-8", "surrogateescape")
    except ReadError as error:
        found.unread.append((_make_relative(path, os.getcwd()), error))
        return []
    return [(directory.rstrip(os.sep), GitignorePatterns(text.split("\n")))]


def _read_rules_above(top: str, found: Discovery) -> list[tuple[str, GitignorePatterns]]:
    """Ignore files between the repository's root and ``top``; none if they ignore ``top``, which was asked for."""
    above: list[str] = []
    directory = top
    while not os.path.exists(os.path.join(directory, ".git")):
        parent = os.path.dirname(directory)
        if parent == directory:
            return []
        directory = parent
        above.append(directory)
    rules = _read_rules_in(directory, ".git/info/exclude", found)
    for parent in reversed(above):
        rules += _read_rules_in(parent, ".gitignore", found)
    return [] if _is_top_ignored(top, directory, rules) else rules


def _is_top_ignored(top: str, repository: str, rules: list[tuple[str, GitignorePatterns]]) -> bool:
    """Whether ``top`` or a directory between it and the repository is ignored."""
    directory = top
    while len(directory) > len(repository):
        if _is_ignored(directory, True, [(base, patterns) for base, patterns in rules if directory.startswith(base)]):
            return True
        directory = os.path.dirname(directory)
    return False
