"""JSON that is as good as the data in it, and that nothing acts on which reads it in a log or on a terminal."""

from __future__ import annotations

import json
import re
from typing import Any

from theria_lint.report.style import COMMAND, ESCAPES

# JSON itself escapes what is below a space. Half a character is none that UTF-8 can hold.
_ACTIVE = re.compile(f"[{''.join(chr(code) for code in ESCAPES if code > 0x20)}\ud800-\udfff]")


def as_json(data: Any, *, indent: int | None = 2) -> str:
    """``data`` as JSON without NaN; what is not ASCII stays readable, and what is active becomes an escape."""
    text = json.dumps(data, indent=indent, ensure_ascii=False, allow_nan=False)
    return COMMAND.sub(r"#\\u0023", _ACTIVE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))
