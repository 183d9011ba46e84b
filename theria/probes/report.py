"""What a probe says: typed, and printable as a table and a heat map."""

from __future__ import annotations

from dataclasses import dataclass, field

from theria.verdicts import STATE_SIGNS, Reason, Status, Verdict, block_name, format_legend, variable
from theria.wording import describe


@dataclass(frozen=True)
class Block:
    """One gradient or block beside the oracle's. ``norm`` is None where autograd found no path.

    ``error`` is ‖measured − true‖ / ‖true‖, with a floor under ‖true‖ so that noise in a block as good as
    zero is not called an error. ``state``: ``right``, ``zero`` (so is the oracle's), ``missing``, ``wrong`` or
    ``unclear`` (the oracle is too noisy to tell).
    """

    norm: float | None
    oracle_norm: float
    error: float
    state: str


@dataclass(frozen=True)
class Report:
    """One measurement of a function.

    ``blocks`` is keyed ``"q,k"`` for ∂g_q/∂k and ``"q,out"`` for the cotangent block ∂g_q/∂W; ``noise_floor`` is the
    relative error that the run's precision allows; ``backend`` lists the backends of ours that executed, if any.
    ``why`` is what the verdict rests on, ``remarks`` what else was found out: ``reason`` and ``notes`` in words.
    """

    status: Status
    verdict: Verdict
    why: Reason
    gradients: dict[str, Block] = field(default_factory=dict)
    blocks: dict[str, Block] = field(default_factory=dict)
    oracle: str = ""
    dtype: str = ""
    device: str = ""
    noise_floor: float = 0.0
    forward_error: float | None = None
    configuration: str = ""
    backends: tuple[str, ...] = ()
    error: str | None = None
    remarks: tuple[Reason, ...] = ()

    @property
    def reason(self) -> str:
        """One sentence of evidence."""
        return describe(self.why)

    @property
    def notes(self) -> tuple[str, ...]:
        """What else was found out, a sentence each."""
        return tuple(map(describe, self.remarks))

    @property
    def safe(self) -> bool:
        """Whether everything that was measured is right."""
        return self.verdict is Verdict.SAFE

    def table(self) -> str:
        """Every gradient and block with its norm, the oracle's and the relative error."""
        rows = [("", "norm", "oracle", "error", "")]
        rows += [(f"∂L/∂{name}", *_cells(block)) for name, block in self.gradients.items()]
        for key, block in self.blocks.items():
            rows.append((block_name(*key.split(",")), *_cells(block)))
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines = (
            "  ".join((row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in (1, 2, 3)), row[4])) for row in rows
        )
        return "\n".join(line.rstrip() for line in lines)

    def heatmap(self) -> str:
        """The blocks as a grid, ∂g_a by variable, with the signs that ``theria.verdicts.format_legend`` explains."""
        sources = list(dict.fromkeys(key.split(",")[0] for key in self.blocks))
        columns = list(dict.fromkeys(key.split(",")[1] for key in self.blocks))
        width = max((len(n) for n in (*sources, *columns)), default=1) + 1
        lines = [" " * (width + 3) + "".join(variable(c).rjust(width) for c in columns)]
        for a in sources:
            cells = (STATE_SIGNS[self.blocks[f"{a},{b}"].state] if f"{a},{b}" in self.blocks else " " for b in columns)
            lines.append(f"∂g_{a}".ljust(width + 3) + "".join(cell.rjust(width) for cell in cells))
        return "\n".join(lines)

    def __str__(self) -> str:
        """The verdict, the reason, the table and the heat map."""
        where = ", ".join(part for part in (self.dtype, self.device, self.configuration) if part)
        head = f"{self.verdict}: {self.reason}"
        facts = f"status {self.status}; {where}; oracle: {self.oracle or 'none'}; noise floor {self.noise_floor:.1e}"
        parts = [head, facts, *self.notes]
        if self.gradients:
            parts += ["", self.table()]
        if self.blocks:
            parts += ["", self.heatmap(), format_legend()]
        return "\n".join(parts)


def _cells(block: Block) -> tuple[str, str, str, str]:
    norm = "None" if block.norm is None else f"{block.norm:.3g}"
    return norm, f"{block.oracle_norm:.3g}", f"{block.error:.1e}", "" if block.state == "right" else block.state
