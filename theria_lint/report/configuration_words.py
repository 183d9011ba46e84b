"""Put the configurations that a target is measured in into words."""

from __future__ import annotations

from collections.abc import Mapping

from theria_lint.confirm.protocol import Configuration

_WORDS: Mapping[str, str] = {
    Configuration.FIRST_SIZES: "the first sizes",
    Configuration.SMALLER_DEFAULTS: "smaller defaults",
    Configuration.EVALUATION_MODE: "evaluation mode",
    Configuration.STRIDED_INPUTS: "strided inputs",
    Configuration.CAUSAL_MASK: "a causal mask",
    Configuration.ROUND_SIZES: "round sizes",
    Configuration.ODD_SIZES: "odd sizes",
    Configuration.LONGER_SEQUENCE: "a longer sequence",
    Configuration.PACKED_SEQUENCES: "packed sequences",
    Configuration.SHARED_KEYS: "shared keys",
    Configuration.OPTIONAL_ARGUMENTS: "its optional {}",
    Configuration.FLOATING_ARGUMENT: "its {} as an input",
    Configuration.SECOND_CALL: "a second call",
    Configuration.ALL_OUTPUTS: "all that it returns",
    Configuration.OUTPUT: "output {} of what it returns",
    Configuration.RECORDED_CALL: "the call by {}",
    Configuration.DTYPE: "{}",
    Configuration.POINT: "other numbers ({})",
    Configuration.ONE_QUERY: "one query",
    Configuration.ONE_POSITION: "one position",
    Configuration.HEADS: "{} heads",
    Configuration.BATCH: "a batch of {}",
    Configuration.POSITIONS: "{} positions",
    Configuration.KEYS: "{} keys",
    Configuration.CHANNELS: "{} channels",
    Configuration.FUSED_KERNEL_SIZES: "sizes of a fused kernel",
}
"""By its code; braces stand where what belongs to it does."""

_LEARNED = f" + {Configuration.LEARNED}: "


def describe_configuration(label: str) -> str:
    """The words for a label of `label_configuration`; the configurations of ``theria.probe`` are words already."""
    plain, learned, names = label.rpartition(_LEARNED)
    if learned:
        return f"{describe_configuration(plain)}, with its {names} as inputs"
    code, colon, arguments = label.partition(": ")
    words = _WORDS.get(code, label)
    if "{}" in words:
        return words.replace("{}", arguments)
    return f"{words} ({arguments})" if colon and code in _WORDS else words
