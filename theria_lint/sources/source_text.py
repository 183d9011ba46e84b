"""Read, decode and parse source files: no byte order mark, lines ended by a newline."""

from __future__ import annotations

import ast
import os
import re
import stat
import warnings
from functools import lru_cache
from symtable import symtable

from theria_lint.errors import ReadError, SourceError

# Nobody writes such a file by hand, and libcst would need minutes and gigabytes for it.
LARGEST_FILE = 10 * 1024 * 1024


def read_bytes(path: str) -> bytes:
    """The content of a file. Raises ReadError if it cannot be read or is larger than ``LARGEST_FILE``."""
    return read_up_to(LARGEST_FILE, path)


def read_up_to(largest: int, path: str) -> bytes:
    """The content of a file of at most ``largest`` bytes. Raises ReadError.

    What is no file is not even opened: a pipe would be waited for, and a device may do anything.
    """
    try:
        size = _size(os.stat(path))
        if size <= largest:
            with open(path, "rb", opener=open_without_waiting) as stream:
                size = max(size, _size(os.fstat(stream.fileno())))
                data = stream.read(largest + 1)
                size = max(size, len(data))
    except (OSError, ValueError) as error:
        raise ReadError("file_unreadable", message=getattr(error, "strerror", None) or str(error)) from None
    if size > largest:
        raise ReadError("file_too_large", size=size, largest=largest)
    return data


def _size(found: os.stat_result) -> int:
    if not stat.S_ISREG(found.st_mode):
        raise ReadError("not_a_file")
    return found.st_size


def open_without_waiting(path: str, flags: int) -> int:
    """An opener for `open`: neither it nor reading waits for somebody who writes."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def find_encoding(data: bytes) -> str:
    """The encoding of source text by PEP 263: the BOM, the comment in the first two lines, or UTF-8.

    Raises ReadError for an encoding that Python does not know. Unlike ``tokenize.detect_encoding`` it takes, as the
    compiler does, a coding comment with characters that are not UTF-8.
    """
    import codecs

    if data.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    for line in re.split(rb"\r\n?|\n", data, maxsplit=2)[:2]:
        found = re.match(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)", line)
        if found:
            name = _name_codec(found[1].decode("ascii", "replace"))
            try:
                "".encode(name)
            except (LookupError, UnicodeError):
                raise ReadError("encoding_unknown", 1, encoding=name) from None
            return name
        if line.strip() and not line.lstrip().startswith(b"#"):
            break
    return "utf-8"


def _name_codec(name: str) -> str:
    """The name of a codec, where the compiler takes more names for it: Emacs adds the line ends, as in utf-8-unix."""
    start = name[:12].lower().replace("_", "-") + "-"
    known = {"utf-8-": "utf-8", "latin-1-": "latin-1", "iso-8859-1-": "latin-1", "iso-latin-1-": "latin-1"}
    return next((codec for prefix, codec in known.items() if start.startswith(prefix)), name)


def decode_source(data: bytes) -> str:
    """Source text in its own encoding. Raises ReadError."""
    encoding = find_encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeError as error:
        line = data.count(b"\n", 0, getattr(error, "start", 0)) + 1
        raise ReadError("encoding_wrong", line, encoding=encoding) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse_python(source: str) -> ast.Module:
    """The tree of a module; `SourceError` for whatever keeps Python from reading it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes and literals of the code that is read
            return ast.parse(source)
    except SyntaxError as error:
        raise SourceError("not_parsed", error.lineno, message=error.msg) from None
    except (ValueError, UnicodeError) as error:
        raise SourceError("not_parsed", message=str(error)) from None
    except (RecursionError, MemoryError):
        raise SourceError("nested_too_deeply") from None


def is_valid_python(source: bytes | str) -> bool:
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


def check_syntax(source: str) -> None:
    """Raise `SourceError` if a file is not valid Python."""
    if not is_valid_python(source):
        parse_python(source)


INLINE_IMPORT = "__import__("
"""What stands in a rewrite that imports in the midst of an expression: its tidy form is another program."""

# str.splitlines would also split at form feeds and other characters that end no line of Python.
_LINE_END = re.compile(r"\r\n|\r|\n")
_BRACKET_OR_END = re.compile(r"[()\[\]{}]|\n")
_LINE_WITH_END = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


def split_lines(source: str) -> list[str]:
    """The lines of a source without their ends; one more, empty, after a final line end."""
    return _LINE_END.split(source)


def split_keeping_ends(source: str) -> list[str]:
    """The lines of a source with their ends: joined, they are the source."""
    return _LINE_WITH_END.findall(source)


def find_statement_end(text: str, place: int) -> int:
    """Where the logical line of a masked text that holds a place ends, however many physical lines it takes."""
    known = place // _STEP
    depth = _list_depths(text)[known] + _count_open(text, known * _STEP, place)
    for match in _BRACKET_OR_END.finditer(text, place):
        if match[0] != "\n":
            depth += 1 if match[0] in "([{" else -1
        elif depth <= 0 and not text.endswith(("\\", "\\\r"), 0, match.start()):
            return match.start()
    return len(text)


_STEP = 4096


@lru_cache(maxsize=4)
def _list_depths(text: str) -> list[int]:
    """How many brackets are open at every so many characters of a text: many statements of one are asked about."""
    depths = [0]
    for start in range(0, len(text), _STEP):
        depths.append(depths[-1] + _count_open(text, start, start + _STEP))
    return depths


def _count_open(text: str, start: int, end: int) -> int:
    return sum(text.count(left, start, end) - text.count(right, start, end) for left, right in ("()", "[]", "{}"))


# What deals with tensors of torch: torch, what a tensor can be asked, and packages of kernels for them.
TENSOR_WORDS = (b"torch", b"detach", b"requires_grad", b"register_hook", b"flash_attn", b"xformers", b"sageattention")
# Arrays of others than torch: attention of theirs is not for us to run.
_OTHER_ARRAYS = (b"numpy", b"jax", b"tensorflow", b"mlx", b"cupy", b"keras", b"paddle", b"tinygrad")
# A function of q, k and v in this order, under usual names.
_TAKES_QKV = re.compile(
    rb"\bdef[ \t]+\w+\((?:[^()]{0,80}?\W)?x?q(?:uery|ueries|s|_\w+)?\b"
    rb"[^()]{0,80}?\Wx?k(?:eys?|s|_\w+)?\b[^()]{0,80}?\Wx?v"
)


def may_hold_targets(data: bytes) -> bool:
    """Whether a file deals with tensors of torch, or may: it has a function of q, k and v, and says of no other arrays.

    A file that calls an imported kernel need not say torch.
    """
    if any(word in data for word in TENSOR_WORDS):
        return True
    return not any(word in data for word in _OTHER_ARRAYS) and _TAKES_QKV.search(data) is not None
