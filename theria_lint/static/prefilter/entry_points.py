"""Decide from masked text whether it may be attention code; no false negatives beside the tree analysis."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import chain

from theria_lint.sources.source_text import find_statement_end
from theria_lint.static import attention_names
from theria_lint.static.dataflow import NORMALISERS, PRODUCTS, REDUCERS
from theria_lint.static.gradient_calls import GRADIENT_NAMES
from theria_lint.static.prefilter.top_level_blocks import DEFINED, DEFINED_CLASS, IDENTIFIER, INNER, TopLevelBlock

_SIGNATURE = re.compile(r"[^()]*(?:\((?:[^()]|\([^()]*\))*\)[^()]*)*\)")
_LAMBDA = re.compile(r"lambda\b([^:]*):")
# The end of what stands in front of a lambda that is given a name.
_NAMES = re.compile(r"(\w+)[ \t]*(?::[^=\n]*)?=[ \t]*\(?\s*$")
_NEAR = 200
_DECORATOR = re.compile(r"\n[ \t]*@[^\n]*(?=\n[ \t]*(?:@|def|class|async))")
_MULTIHEAD = re.compile(r"MultiheadAttention|Transformer(?:(?:En|De)coder(?:Layer)?)?(?!\w)")
_MULTIHEAD_CALL = re.compile(rf"(?:{_MULTIHEAD.pattern})[\s\\]*[(,)]")
_ALIAS = re.compile(r"as(?<=[\s\\]as)[\s\\]+(\w+)")
_LAST_NAME = re.compile(r"\w+(?=[\s\\]+\Z)")
_ATTENDING_HINTS = ("attn", "attention", "sdpa", "mha", "mqa", "gqa", "mla", "attend", "transformer")
_ATTENDING = re.compile(rf"(?:{'|'.join(_ATTENDING_HINTS)})\w*")
_IMPORTED = re.compile(r"(?<!\w)import\b[\s\\]*(?:\([^)]*\)|(?:[^\n\\]|\\[\s\S])*)")
# The first name of what stands in front of a member.
_OWNER = re.compile(r"(?<![\w.])(\w+)(?:[\s\\]*\.[\s\\]*\w+)*[\s\\]*\.[\s\\]*\Z")
_ENTRY = re.compile(r"(?:forward|__call__)\s*[\[(=]")
# The literal comes first: the engine then skips to it instead of trying every place.
_GRADIENT_CALLS = tuple((name, re.compile(rf"{name}(?<!\w{name})[\s\\]*\(")) for name in sorted(GRADIENT_NAMES))
_PRODUCTS = tuple((word, re.compile(rf"{word}(?<!\w{word})(?!\w)")) for word in PRODUCTS)
# Names that can be for q, k or v.
_SOME_VARIABLE = tuple(re.compile(rf"{letter}(?<![a-wyzA-WYZ0-9.]{letter})") for letter in ("[qQ]", "[kK]", "[vV]"))
_VARIABLE = re.compile(r"(?<![\w.])_*(?:[xX]_*)?[qkvQKV]\w*")
_EXPONENTIAL = re.compile(r"(?<!\w)exp[2_]?[\s\\]*\(")
# Between two operands: no unpacking, no power.
_TIMES = re.compile(r"[\w)\]}][\s\\]*\*(?![*=])")
# A part of every name of an operation: a text without any is not searched.
_HINTS = (
    *("scaled_dot_product_", "multi_head_attention_forward", "flex_attention", "memory_efficient_attention"),
    *("flash_att", "sageattn", "xformers_attention", "edge_softmax"),
)
_OPERATION = re.compile(rf"(?<!\w){attention_names.OPERATION}")
_WORD_END = re.compile(r"(?!\w)")
_RENAMED = re.compile(r"[\s\\]+as[\s\\]+(\w+)")
_ASSIGNED_TO = re.compile(r"[ \t]*(\w+)[ \t]*(?::[^=\n]*)?=")
_CALLED = re.compile(r"[\s\\]*\(")
_ONE_FUNCTION = re.compile(r"\s*(?:@[^\n]*\s+)*(?:async[ \t]+)?def\b")
_SOFTMAX_CALL = re.compile(r"softmax\w*[\s\\)]*\(", re.IGNORECASE)
_PRODUCT_CALL = re.compile(rf"@(?!=)|(?<!\w)(?:{'|'.join(sorted(PRODUCTS))})\(")


def may_be_entry_point(block: TopLevelBlock) -> bool:
    """Whether a block may itself be attention code."""
    text = block.text
    if block.body is not None:
        return False
    if any(map(attention_names.is_attention_class_name, DEFINED_CLASS.findall(text))) or names_multihead(text):
        return True
    if ("MessagePassing" in text and takes_softmax(text)) or _may_write_memory(text):
        return True
    if "def" not in text and "lambda" not in text:
        return False
    methods = frozenset(_iter_method_starts(block))
    if any(_may_be_attention(text, match, match.start() in methods) for match in INNER.finditer(text)):
        return True
    tests = [test for test in _COMPUTING if test(text)]
    return bool(tests) and any(test(piece.text) for piece in block.get_pieces() for test in tests)


def names_multihead(text: str) -> bool:
    """Whether a text makes or names a module of PyTorch's that attends."""
    return _MULTIHEAD_CALL.search(text) is not None


def may_method_be_entry_point(method: str) -> bool:
    """Whether a method of this text may be attention code by what it takes and computes."""
    found = INNER.finditer(method)
    return any(test(method) for test in (*_COMPUTING, may_take_gradients)) or any(
        _may_be_attention(method, match, False) for match in found
    )


def _iter_method_starts(block: TopLevelBlock) -> Iterator[int]:
    """Where the definitions of a class's methods stand: of a method the name alone says nothing."""
    for start in block.get_statement_starts():
        yield start + len("async ") if block.text.startswith("async ", start) else start


def _may_compute_attention(text: str) -> bool:
    """Whether a function of a text may compute attention of what it takes or makes."""
    if takes_softmax(text):
        return count_products(text) > 0 or "mul" in text or _may_make_qkv(text) or _TIMES.search(text) is not None
    return count_products(text) >= 2 and _may_make_qkv(text)


def _may_normalise(text: str) -> bool:
    """Whether a function of a text may weigh values by normalised scores under another name than softmax."""
    if any(name in text for name in NORMALISERS):
        return True
    if "exp" not in text or "/" not in text or not any(name in text for name in REDUCERS):
        return False
    return _EXPONENTIAL.search(text) is not None


def _may_write_memory(text: str) -> bool:
    """Whether a function of a text may take gradients of a memory."""
    if not may_take_gradients(text):
        return False
    if any(map(attention_names.is_memory_name, DEFINED.findall(text))):
        return True
    return {"k", "v"} <= attention_names.collect_roles(_VARIABLE.findall(text))


def may_take_gradients(text: str) -> bool:
    """Whether a function of a text may differentiate something and use what comes of it."""
    if ".backward" in text and ".grad" in text:
        return True
    return any(name in text and call.search(text) is not None for name, call in _GRADIENT_CALLS)


def _may_pass_qkv_on(text: str) -> bool:
    """Whether a function of a text may be a forward that passes q, k and v on."""
    return _ENTRY.search(text) is not None and _may_make_qkv(text)


def find_attending_mentions(text: str) -> Iterator[int]:
    """Where a text calls what is named after attention or a transformer, or says the name of what it imports so."""
    lower = text.lower()
    if not any(hint in lower for hint in _ATTENDING_HINTS):
        return
    imported = frozenset(IDENTIFIER.findall("\n".join(_IMPORTED.findall(text))))
    for match in _ATTENDING.finditer(lower):
        start = match.start()
        while start and (text[start - 1].isalnum() or text[start - 1] == "_"):
            start -= 1
        name = IDENTIFIER.match(text, start)
        if name is None or not _names_attending(name[0]):
            continue
        if _CALLED.match(text, name.end()) or _find_root(text, start, name[0]) in imported:
            yield start


def _find_root(text: str, start: int, name: str) -> str:
    """The first name of the dotted one that ends in ``name`` at a place."""
    before = text[max(0, start - _NEAR) : start].rstrip(" \t\\\n")
    owner = _OWNER.search(before) if before.endswith(".") else None
    return owner[1] if owner is not None else name


def find_attending_aliases(text: str) -> set[str]:
    """The names that the imports of a text give to what is named after attention or a transformer."""
    found: set[str] = set()
    for match in _ALIAS.finditer(text):
        name = _LAST_NAME.search(text, max(0, match.start() - _NEAR), match.start())
        if name is not None and _names_attending(name[0]):
            found.add(match[1])
    return found


@lru_cache(maxsize=8192)
def _names_attending(name: str) -> bool:
    return attention_names.names_attention(name) or attention_names.is_attending_class_name(name)


def _may_be_attention_lambda(text: str) -> bool:
    """Whether a text may name a lambda that is attention, by its name or by its parameters."""
    for match in _LAMBDA.finditer(text) if "lambda" in text else ():
        before = text[max(0, match.start() - _NEAR) : match.start()]
        named = _NAMES.search(before) if before.rstrip().rstrip("(").rstrip().endswith("=") else None
        if named is not None and attention_names.is_attention_function_name(named[1]):
            return True
        if named is not None and attention_names.takes_qkv(IDENTIFIER.findall(match[1])):
            return True
    return False


def _may_be_attention(text: str, match: re.Match[str], is_method: bool) -> bool:
    """Whether the definition that begins at ``match`` is attention by its name or by its parameters."""
    if not is_method and attention_names.is_attention_function_name(match[1]):
        return True
    signature = _SIGNATURE.match(text, match.end())
    # A signature that is nested too deeply for the pattern: whatever follows may be a parameter.
    found, takes_function = _read_parameters(signature[0] if signature else text)
    if takes_function and ("lambda" in text or attention_names.names_attention(match[1])):
        return True
    if {"q", "k"} <= found and takes_softmax(text) and count_products(text):
        return True
    return {"q", "k", "v"} <= found or "qkv" in found or {"q", "kv"} <= found


@lru_cache(maxsize=8)
def _read_parameters(text: str) -> tuple[frozenset[str], bool]:
    """The roles that a text names, and whether one of its names is for a function."""
    identifiers = IDENTIFIER.findall(text)
    roles = frozenset(attention_names.collect_roles(identifiers))
    return roles, not attention_names.FUNCTION_PARAMETERS.isdisjoint(identifiers)


def may_call_operation(text: str) -> bool:
    """Whether a text names an attention operation."""
    return any(_WORD_END.match(text, match.end()) for match in _iter_operations(text))


def find_renamed_operations(text: str) -> set[str]:
    """The names that a text gives to attention operations and multi-head attention, by an import or an assignment."""
    found: set[str] = set()
    before, assigned, ends = -1, None, 0  # of the line: what it assigns to, and where that value ends
    for match in sorted(chain(_iter_operations(text), _MULTIHEAD.finditer(text)), key=re.Match.start):
        begin = text.rfind("\n", max(before, 0), match.start()) + 1
        if begin or before < 0:
            assigned = _ASSIGNED_TO.match(text, begin)
            ends = text.find("=", assigned.end()) if assigned is not None else 0
        before = match.start()
        if _CALLED.match(text, match.end()):
            continue  # what is assigned is its result
        renamed = _RENAMED.match(text, match.end())
        is_value = assigned is not None and assigned.end() <= before and not 0 <= ends < before
        found.update(told[1] for told in (renamed, assigned if is_value else None) if told is not None)
    return found


def _iter_operations(text: str) -> Iterator[re.Match[str]]:
    """What begins with the name of an attention operation."""
    for hint in _HINTS:
        place = text.find(hint)
        while place >= 0:
            start = place - 1 if text.startswith("_", place - 1) and place else place
            match = _OPERATION.match(text, start)
            if match is not None:
                yield match
            place = text.find(hint, place + 1)


@lru_cache(maxsize=8)  # asked of a whole class for each of its methods
def takes_softmax(text: str) -> bool:
    """Whether a text may take a softmax."""
    return "softmax" in text or "Softmax" in text or "SoftMax" in text or "SOFTMAX" in text


@lru_cache(maxsize=8)
def count_products(text: str) -> int:
    """How many matrix products a text may hold."""
    calls = sum([len(found.findall(text)) for word, found in _PRODUCTS if word in text])
    return calls + (text.count("@") - len(_DECORATOR.findall(f"\n{text}")) if "@" in text else 0)


def _may_make_qkv(text: str) -> bool:
    """Whether a text says names for q, k and v that are no attributes."""
    return all(found.search(text) for found in _SOME_VARIABLE) and attention_names.takes_qkv(_VARIABLE.findall(text))


def may_make_weights(block: TopLevelBlock) -> bool:
    """Whether a function of the block may take a softmax of a product, and no product behind it."""
    if not takes_softmax(block.text) or not count_products(block.text):
        return False
    return any(_may_end_in_softmax(piece.text) for piece in block.get_pieces())


def _may_end_in_softmax(text: str) -> bool:
    if not takes_softmax(text) or not count_products(text):
        return False
    if not _ONE_FUNCTION.match(text) or len(DEFINED.findall(text)) > 1:
        return True
    calls = list(_SOFTMAX_CALL.finditer(text))
    return bool(calls) and _PRODUCT_CALL.search(text, find_statement_end(text, calls[-1].start())) is None


# Each tells of a text whether one of its functions may be attention code; what is true of a function is true of a text
# that holds it.
_COMPUTING: tuple[Callable[[str], bool], ...] = (
    _may_compute_attention,
    _may_normalise,
    may_call_operation,
    _may_pass_qkv_on,
    _may_be_attention_lambda,
)
