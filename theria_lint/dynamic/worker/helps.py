"""What was done so that code meant for a GPU runs on the CPU: recorded as it is used, told with every run."""

from __future__ import annotations

_given: dict[str, None] = {}
_asked: dict[str, None] = {}


def give(help_: str) -> None:
    """Records that a stand-in was used, in words that fit after "ran on the CPU with"."""
    _given[help_] = None


def given() -> tuple[str, ...]:
    """The stand-ins used so far, in the order of their first use."""
    return tuple(_given)


def ask(question: str) -> None:
    """Records that the code under test asked whether it runs on a GPU: it may take another path there."""
    _asked[question] = None


def asked() -> tuple[str, ...]:
    """The questions asked so far."""
    return tuple(_asked)


def forget() -> None:
    """Starts a new record."""
    _given.clear()
    _asked.clear()
