"""Find what makes a derivative bad: the operator, by autograd's anomaly mode, or a backward of the code's own."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from theria.probes.derivatives import PRIMARY, graph_nodes, second_of_all
from theria.probes.point import Function, Point, call
from theria.verdicts import Ground, Reason

MOST = 3
"""So many backwards of the code's own are named: of more, none stands out."""

_TORCH = str(Path(torch.__file__).parent)
TOOLS = [str(Path(__file__).parent)]
"""The folders of what stands between a caller and the code that is measured: its frames say nothing of that code."""

_NAN = re.compile(r"Function '(\w+)' returned nan values")
_NODE = re.compile(r"(?:Error detected in|induced by) (\w+)\.")
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


def find_origins(function: Function, point: Point) -> Iterator[Reason]:
    """Where the first node stands that raises, or gives NaN; else the backwards that are not PyTorch's own."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            with torch.autograd.detect_anomaly(check_nan=True):
                arguments = point.leaves()
                output = call(function, arguments, point.seed)
                second_of_all(output, arguments, point, PRIMARY)
        except Exception as error:  # of autograd, of the code's own backward, or of anomaly mode
            found = _NAN.search(str(error))
            yield from _read_traceback([str(warning.message) for warning in told], found[1] if found else None)
            return
    yield from _list_own_backwards(output)


def _read_traceback(said: list[str], nan: str | None) -> Iterator[Reason]:
    """What anomaly mode says of the node that failed: the call of the forward that led to it comes last."""
    for text in reversed([text for text in said if _NODE.search(text)]):
        frames = [(file, int(line)) for file, line in _FRAME.findall(text) if not file.startswith(_TORCH)]
        operator = _NODE.findall(text)[-1]
        own = [frame for frame in frames if not frame[0].startswith(tuple(TOOLS))]
        file, line = own[-1] if own else (None, None)
        yield _make_origin("nan" if nan else "raises", operator, file, line)
        return
    if nan:
        yield _make_origin("nan", nan, None, None)


def _make_origin(kind: str, operator: str, file: str | None, line: int | None) -> Reason:
    """``file`` goes by its name alone: a tree may be moved, and its results with it."""
    name = Path(file).name if file else None
    return Reason(Ground.NODE_FOUND, {"kind": kind, "operator": operator, "file": name, "line": line})


def _list_own_backwards(output: torch.Tensor) -> Iterator[Reason]:
    """The backwards in a graph that Python code defines, PyTorch's own apart."""
    made = dict.fromkeys(getattr(type(node), "_forward_cls", None) for node in graph_nodes([output]))
    codes = [(cls.__name__, getattr(cls.backward, "__code__", None)) for cls in made if cls is not None]
    own = [(name, code) for name, code in codes if code is not None and not code.co_filename.startswith(_TORCH)]
    for name, code in own if len(own) <= MOST else ():
        yield _make_origin("own", name, code.co_filename, code.co_firstlineno)
