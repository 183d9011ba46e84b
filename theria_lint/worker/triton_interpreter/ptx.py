"""Evaluate straight-line PTX on 32-bit floats with NumPy: moves, arithmetic and predicates, no memory.

Semantics of the instructions: NVIDIA's PTX ISA. Approximate ones are computed exactly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Function = Callable[..., Any]

_INSTRUCTIONS: dict[str, Function] = {
    "mov": lambda x: x,
    "neg": np.negative,
    "abs": np.abs,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "fma": lambda x, y, z: x * y + z,
    "min": np.fmin,
    "max": np.fmax,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "rcp": lambda x: 1.0 / x,
    "ex2": np.exp2,
    "lg2": np.log2,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
}
_COMPARISONS: dict[str, Function] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
_MODIFIERS = {"approx", "ftz", "rn", "full", "f32"}
_PLAIN_MOVES = {"b32", "f32"}
_STATEMENT = re.compile(r"(?:@(!?)([\w%]+)\s+)?([a-z0-9.]+)\s+(.*)", re.DOTALL)


class UnknownAssemblyError(NotImplementedError):
    """The text holds something else than the instructions that are known here."""


def evaluate_assembly(text: str, inputs: Sequence[Any]) -> Any:
    """What the one output register ``$0`` holds in the end; ``inputs``: arrays for ``$1``, ``$2`` and so on.

    Raises:
        UnknownAssemblyError: for an instruction, a type or an operand that is not known, or where ``$0`` stays unset.
    """
    registers: dict[str, Any] = {f"${i + 1}": np.asarray(x, dtype=np.float32) for i, x in enumerate(inputs)}
    with np.errstate(all="ignore"):
        for statement in re.sub(r"//[^\n]*|[{}]", " ", text).split(";"):
            if statement.strip() and not statement.strip().startswith(".reg"):
                _execute_statement(statement.strip(), registers)
    if "$0" not in registers:
        raise UnknownAssemblyError(text)
    return registers["$0"]


def _execute_statement(statement: str, registers: dict[str, Any]) -> None:
    match = _STATEMENT.fullmatch(statement)
    if match is None:
        raise UnknownAssemblyError(statement)
    negated, guard, instruction, rest = match.groups()
    target, *operands = (operand.strip() for operand in rest.split(","))
    value = _find_function(instruction)(*(_read_operand(operand, registers) for operand in operands))
    if guard:
        condition = _read_operand(guard, registers)
        value = np.where(~condition if negated else condition, value, registers.get(target, np.float32(np.nan)))
    registers[target] = value


def _find_function(instruction: str) -> Function:
    name, *parts = instruction.split(".")
    if name == "setp" and parts and parts[0] in _COMPARISONS and set(parts[1:]) <= _MODIFIERS and "f32" in parts:
        return _COMPARISONS[parts[0]]
    if name in _INSTRUCTIONS and set(parts) <= _MODIFIERS and "f32" in parts:
        return _INSTRUCTIONS[name]
    if name == "mov" and len(parts) == 1 and parts[0] in _PLAIN_MOVES:
        return _INSTRUCTIONS[name]
    raise UnknownAssemblyError(instruction)


def _read_operand(text: str, registers: dict[str, Any]) -> Any:
    """A register's value or a number, in decimals or as the hexadecimal digits of its bits (``0f3F800000``)."""
    if text in registers:
        return registers[text]
    if re.fullmatch(r"0[fF][0-9a-fA-F]{8}", text):
        return np.frombuffer(bytes.fromhex(text[2:])[::-1], dtype=np.float32)[0]
    try:
        return np.float32(text)
    except ValueError:
        raise UnknownAssemblyError(text) from None
