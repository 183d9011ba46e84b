"""Read hints about argument shapes from text: docstrings, comments, unpackings, error messages."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from theria.probes.layouts import Shape

Symbols = tuple[str, ...]
"""The axes of a tensor as their author names them: ``("B", "T", "H", "K")``."""

_BATCH, _TIME, _HEADS, _WIDTH = "batch", "time", "heads", "width"
_MEANINGS = (
    (_BATCH, r"b|bs|bsz|batch(_?size)?|z|nseqs?"),
    (_HEADS, r"h|h[qkv]|g|nh|n_?heads?|num_heads|heads?|head_num|nheads_[qkv]"),
    (_WIDTH, r"d|k|v|e|c|r|dim|d_?[kvqh]|d_?heads?|head_?dim|head_?size|hidden|channels?|features|dim_head"),
    (_TIME, r"t|l|s|n|m|tq|tk|lq|lk|seq|seq_?len\w*|len|length|time|n_?ctx|tokens|seq_[qk]"),
)
_SIZE = r"[A-Za-z_]\w*|\d+"
_LIST = re.compile(rf"[\[(]\s*((?:{_SIZE})(?:\s*,\s*(?:{_SIZE}))*)\s*,?\s*[\])]")
_ENTRY = re.compile(
    r"^[ \t]*[`*]*([A-Za-z_]\w*(?:[`*]*\s*[,/]\s*[`*]*[A-Za-z_]\w*)*)[`*]*\s*(\([^()\n]*\))?\s*[:,]", re.M
)
_INLINE = re.compile(
    rf"(?<![\w.])([A-Za-z_]\w*(?:\s*,\s*[A-Za-z_]\w*)*)(?:\s*:\s*|\s+)[\[(]\s*((?:{_SIZE})(?:\s*,\s*(?:{_SIZE}))*\s*,?)\s*[\])]"
)
_UNPACKED = re.compile(rf"^[ \t]*((?:{_SIZE})(?:\s*,\s*(?:{_SIZE}))+)\s*=\s*(\*?)(\w+)\.(?:shape|size\(\))(.*)$", re.M)
_ASSERTED = re.compile(rf"\b(\w+)\.shape\s*==\s*\(\s*((?:{_SIZE})(?:\s*,\s*(?:{_SIZE}))*)\s*,?\s*\)")
_COMPLAINT = re.compile(rf"\b(\w+)\b[`'\"]?\s+(?:must|should|to|has to|needs to)\b[^\[(]*{_LIST.pattern}")


def find_shapes(text: str) -> dict[str, Symbols]:
    """The shapes that a source text or an error message gives for names, where every axis has a known meaning."""
    found: dict[str, Symbols] = {}
    for name, symbols in find_shape_statements(text):
        known = all(_find_axis_meaning(symbol, i, len(symbols)) for i, symbol in enumerate(symbols))
        if known and name not in found and not all(symbol.isdigit() for symbol in symbols):
            found[name] = symbols
    return found


def find_shape_statements(text: str) -> Iterator[tuple[str, Symbols]]:
    """Names with the axes that a text gives them, whatever these are called."""
    yield from _find_inline_shapes(text)
    yield from _find_described_shapes(text)
    for pattern in (_ASSERTED, _COMPLAINT):
        yield from ((match.group(1), _split_symbols(match.group(2))) for match in pattern.finditer(text))
    for match in _UNPACKED.finditer(text):
        symbols, starred, rest = _split_symbols(match.group(1)), match.group(2), match.group(4)
        further = rest.count(".shape[") + rest.count(".size(") if starred else 0
        yield match.group(3), symbols[: len(symbols) - further]


def _find_described_shapes(text: str) -> Iterator[tuple[str, Symbols]]:
    """``name (type): … shape [B, T, H]``, as docstrings have it, and ``name,  # (B, T, H)``."""
    entries = list(_ENTRY.finditer(text))
    ends = [*(entry.start() for entry in entries[1:]), len(text)]
    for entry, end in zip(entries, ends, strict=False):
        said = _LIST.search(text, entry.end(), min(end, entry.end() + 200))
        if said is None:
            continue
        symbols = _split_symbols(said.group(1))
        if len(symbols) > 1 or re.search(r"shape\W*$", text[entry.end() : said.start()]):
            yield from ((name, symbols) for name in re.findall(r"\w+", entry.group(1)))


def _find_inline_shapes(text: str) -> Iterator[tuple[str, Symbols]]:
    """``q (B, H, T, D); k, v: (B, M, D); sinks (H,)``, as short docstrings have it."""
    for match in _INLINE.finditer(text):
        if "," in match.group(2):
            yield from (
                (name, _split_symbols(match.group(2).rstrip(", "))) for name in re.findall(r"\w+", match.group(1))
            )


def _split_symbols(sizes: str) -> Symbols:
    return tuple(size.strip() for size in sizes.split(","))


def read_source_text(target: Any) -> str:
    """The text of a function, or of the forward of an ``autograd.Function``; empty where there is none."""
    function = target.forward if inspect.isclass(target) and hasattr(target, "forward") else target
    try:
        return inspect.getsource(inspect.unwrap(function))
    except (OSError, TypeError, ValueError):
        return ""


def find_layout(symbols: Symbols) -> str | None:
    """The layout that a query of such axes has; None where its axes are in no order that we know."""
    meanings = [_find_axis_meaning(symbol, i, len(symbols)) for i, symbol in enumerate(symbols)]
    orders = {
        "bhtd": [_BATCH, _HEADS, _TIME, _WIDTH],
        "bthd": [_BATCH, _TIME, _HEADS, _WIDTH],
        "btd": [_BATCH, _TIME, _WIDTH],
        "td": [_TIME, _WIDTH],
    }
    return next((layout for layout, order in orders.items() if meanings == order), None)


def compute_sizes(symbols: Symbols, shape: Shape) -> tuple[int, ...]:
    """The shape of a tensor with such axes."""
    sizes: Mapping[str, int] = {
        _BATCH: shape.batch,
        _HEADS: shape.heads,
        _TIME: shape.keys,
        _WIDTH: shape.dim,
    }
    named = [_find_axis_meaning(symbol, i, len(symbols)) for i, symbol in enumerate(symbols)]
    return tuple(int(s) if s.isdigit() else sizes[m or _WIDTH] for s, m in zip(symbols, named, strict=True))


def _find_axis_meaning(symbol: str, index: int, rank: int) -> str | None:
    """What an axis is, by its name and, where letters serve twice, by its place: N is a batch first, a length later."""
    if symbol.isdigit():
        return _WIDTH
    name = symbol.lower()
    if name == "n" and index == 0 and rank > 2:
        return _BATCH
    if name == "m" and index == rank - 1 and rank > 2:
        return _WIDTH
    return next((meaning for meaning, pattern in _MEANINGS if re.fullmatch(pattern, name)), None)
