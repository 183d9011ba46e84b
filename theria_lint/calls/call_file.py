"""Store recorded calls, find those of a target, and check what a file says before anybody believes it. Needs no torch.

A folder of calls has a folder for each target, ``<path of its file>/<symbol>/``, and in it two files for each call:
``<name>.json``, what `call_tree` makes of its arguments, and ``<name>.safetensors``, the tensors that are kept whole.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from theria_lint.errors import FileError, ReadError
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.sources.source_text import read_up_to

FORMAT = 1
MOST_CALLS = 4
"""How many ways in which a target was called are kept."""

LARGEST = 1 << 20
"""Bytes that a file of a call may have."""

SHORTEST = 8
"""No axis is cut below this, where not all of a tensor is kept, or a call is made smaller."""

LINTED_PREFIX = "_linted_"
"""Stands before the name of a module that is imported beside another of its name."""

_DEEPEST = 40
_TEXTS = ("path", "symbol", "kind", "caller")


class CallFile(NamedTuple):
    """One recorded call: where it is kept, its document, and its tensors in safetensors' format (base64)."""

    path: str
    document: dict[str, Any]
    tensors: str

    def to_hint(self) -> dict[str, Any]:
        """What the worker is given."""
        return {"document": self.document, "tensors": self.tensors}


class BadCallError(FileError):
    """A file holds no recorded call."""


def name_target_folder(folder: str, path: str, symbol: str) -> str:
    """Where the calls of a target are kept; ``path`` is that of its file, relative to the project's root."""
    return os.path.join(folder, *path.replace(os.sep, "/").split("/"), symbol.replace("<", "(").replace(">", ")"))


def find_calls(folder: str, path: str, symbol: str, within: str) -> tuple[list[CallFile], list[Reason]]:
    """The calls of a target, in the order of their names, and a reason for each file that holds none.

    A link that leads out of ``within`` is not followed.
    """
    found, complaints = [], []
    inside = os.path.join(os.path.realpath(within), "")
    for name in _list_files(name_target_folder(folder, path, symbol)):
        try:
            for part in (name, _name_tensors(name)):
                if not os.path.realpath(part).startswith(inside):
                    raise BadCallError("link_out")
            found.append(read_call(name, path, symbol))
        except BadCallError as error:
            complaints.append(
                Reason(ReasonCode.CALL_FILE_UNUSED, {"file": name, "reason": Reason(error.code, error.data)})
            )
    return found[:MOST_CALLS], complaints


def find_closures(folder: str) -> Iterator[tuple[str, str]]:
    """The path and the symbol of each target with recorded calls that a function of its file made."""
    for place, _, names in os.walk(folder):
        path, symbol = os.path.split(os.path.relpath(place, folder))
        if "." in symbol and "1.json" in names:
            try:
                found = read_call(os.path.join(place, "1.json"), path, symbol)
            except BadCallError:  # which is complained about where it is to be used
                continue
            if found.document.get("factory"):
                yield path, symbol


def _name_tensors(name: str) -> str:
    return name.removesuffix(".json") + ".safetensors"


def _list_files(folder: str) -> Iterator[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    yield from (os.path.join(folder, name) for name in names if name.endswith(".json"))


def read_call(name: str, path: str, symbol: str) -> CallFile:
    """Read and check one file.

    Raises:
        BadCallError: if it is no call of that target.
    """
    try:
        document = json.loads(read_up_to(LARGEST, name))
        beside = _name_tensors(name)
        tensors = read_up_to(LARGEST, beside) if os.path.exists(beside) else b""
    except ReadError as error:
        raise BadCallError(error.code, **error.data) from None
    except (ValueError, RecursionError):
        raise BadCallError("not_json") from None
    check_document(document)
    if (document["path"].replace("\\", "/"), document["symbol"]) != (path.replace(os.sep, "/"), symbol):
        raise BadCallError("call_of_another", symbol=document["symbol"], file=document["path"])
    return CallFile(name, document, base64.b64encode(tensors).decode("ascii"))


def check_document(document: Any) -> None:
    """Raise BadCallError unless a document has the form of a call."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BadCallError("call_malformed", part="format")
    for name in _TEXTS:
        if not isinstance(document.get(name), str):
            raise BadCallError("call_malformed", part=name)
    factory = document.get("factory")
    if factory is not None and not (isinstance(factory, dict) and _is_symbol(factory.get("symbol"))):
        raise BadCallError("call_malformed", part="factory")
    for arguments in (document, document.get("constructor"), factory):
        if arguments is not None:
            _check_arguments(arguments)


def _check_arguments(held: Any) -> None:
    if not isinstance(held, dict) or not isinstance(held.get("args"), list) or not isinstance(held.get("kwargs"), dict):
        raise BadCallError("call_malformed", part="args")
    for tree in (*held["args"], *held["kwargs"].values()):
        _check_tree(tree, 0)


def _check_tree(tree: Any, depth: int) -> None:
    """A tree is an object with one key, the kind of its node."""
    if depth > _DEEPEST:
        raise BadCallError("nested_too_deeply")
    if not isinstance(tree, dict) or len(tree) != 1:
        raise BadCallError("call_malformed", part="args")
    ((kind, value),) = tree.items()
    check = _CHECKS.get(kind)
    if check is None or not check(value, depth + 1):
        raise BadCallError("call_malformed", part=str(kind)[:20])


def _check_trees(value: Any, depth: int) -> bool:
    if not isinstance(value, list):
        return False
    for tree in value:
        _check_tree(tree, depth)
    return True


def _check_pairs(value: Any, depth: int) -> bool:
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        return False
    for key, tree in value:
        _check_tree(key, depth)
        _check_tree(tree, depth)
    return True


def _check_object(value: Any, depth: int) -> bool:
    if not isinstance(value, dict) or set(value) != {"class", "state"} or not _is_name(value["class"]):
        return False
    return _check_pairs(value["state"], depth)


def _check_record(value: Any, depth: int) -> bool:
    if not isinstance(value, dict) or set(value) != {"class", "parts"} or not _is_name(value["class"]):
        return False
    return _check_trees(value["parts"], depth)


def _check_module(value: Any, depth: int) -> bool:
    if not isinstance(value, dict) or set(value) - {"training"} != {"class", "args", "kwargs"}:
        return False
    _check_arguments(value)
    return _is_name(value["class"]) and isinstance(value.get("training", True), bool)


def _check_partial(value: Any, depth: int) -> bool:
    if not isinstance(value, dict) or set(value) != {"function", "args", "kwargs"}:
        return False
    _check_arguments(value)
    _check_tree(value["function"], depth)
    return set(value["function"]) <= {"function", "class", "partial"}


def _is_name(value: Any) -> bool:
    """Whether it is ``module:qualified.name``."""
    if not isinstance(value, str) or value.count(":") != 1:
        return False
    return _is_symbol(value.replace(":", "."))


def _is_symbol(value: Any) -> bool:
    return isinstance(value, str) and all(part.isidentifier() for part in value.split("."))


def _is_scalar(value: Any, depth: int) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


_STATISTICS = ("mean", "std", "low", "high")


def _is_tensor(value: Any, depth: int) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("requires_grad"), bool):
        return False
    sizes = (value.get("shape"), value.get("stride"))
    if not all(isinstance(s, list) and all(isinstance(n, int) and 0 <= n < 2**31 for n in s) for s in sizes):
        return False
    if len(value["shape"]) != len(value["stride"]) or not isinstance(value.get("dtype"), str):
        return False
    if not _is_corner(value.get("corner", value["shape"]), value["shape"]):
        return False
    kept = isinstance(value.get("kept"), str)
    return kept or all(isinstance(value.get(name), int | float) for name in _STATISTICS)


def _is_corner(value: Any, shape: list[int]) -> bool:
    """Whether it says how much of a tensor was kept along each axis."""
    if not isinstance(value, list) or len(value) != len(shape):
        return False
    return all(
        isinstance(left, int) and min(size, SHORTEST) <= left <= size for left, size in zip(value, shape, strict=True)
    )


_CHECKS: dict[str, Callable[[Any, int], bool]] = {
    "value": _is_scalar,
    "float": lambda value, depth: value in ("nan", "inf", "-inf"),
    "list": _check_trees,
    "tuple": _check_trees,
    "set": _check_trees,
    "dict": _check_pairs,
    "size": lambda value, depth: isinstance(value, list) and all(isinstance(n, int) for n in value),
    "dtype": lambda value, depth: isinstance(value, str) and value.isidentifier(),
    "device": lambda value, depth: isinstance(value, str),
    "tensor": _is_tensor,
    "object": _check_object,
    "module": _check_module,
    "record": _check_record,
    "function": lambda value, depth: _is_name(value),
    "class": lambda value, depth: _is_name(value),
    "partial": _check_partial,
    "member": lambda value, depth: _is_name(value),
    "lost": lambda value, depth: isinstance(value, str),
}
"""The kinds of nodes, with what each has to hold."""
