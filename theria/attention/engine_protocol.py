"""What a backend with analytic derivatives has to provide; ``functions`` turns it into autograd Functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from theria.attention.canonical_problem import AttentionSettings


@dataclass(frozen=True, slots=True)
class Saved:
    """What the forward pass leaves for every derivative.

    ``q`` (B, H, T, D), ``k`` (B, Hk, M, D), ``v`` (B, Hk, M, Dv), ``mask`` (B|1, H|1, T|1, M|1) or None,
    ``out`` (B, H, T, Dv), ``lse`` (B, H, T): the log of the sum of the exponentials of a row's logits, −∞ for a row
    without keys, in the accumulator dtype.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None
    out: Tensor
    lse: Tensor


@dataclass(frozen=True, slots=True)
class Directions:
    """Tangents of (q, k, v, mask), which are also the cotangents of their gradients: A, B, C, E in the formulas.

    ``mask`` is None where the mask has no tangent, otherwise a tensor of the mask's shape.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None


@dataclass(frozen=True, slots=True)
class Cotangents:
    """dO and dl in the formulas: of ``out`` (B, H, T, Dv), and of ``lse`` (B, H, T) or None where it is not used."""

    out: Tensor
    lse: Tensor | None = None


#: Gradients of (q, k, v, mask); the last is None unless it was asked for.
Gradients = tuple[Tensor, Tensor, Tensor, Tensor | None]


class Engine(Protocol):
    """A backend's four computations. No autograd graph is recorded around them."""

    @property
    def name(self) -> str:
        """The backend's name, for messages."""

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, settings: AttentionSettings
    ) -> tuple[Tensor, Tensor]:
        """(out, lse) of ``Saved``."""

    def vjp(
        self, saved: Saved, cotangents: Cotangents, settings: AttentionSettings, *, mask_gradient: bool
    ) -> Gradients:
        """Gradients of ⟨cotangents, (out, lse)⟩."""

    def jvp(self, saved: Saved, directions: Directions, settings: AttentionSettings) -> tuple[Tensor, Tensor]:
        """The derivatives of out (B, H, T, Dv) and of lse (B, H, T) in the given directions."""

    def double_backward(
        self,
        saved: Saved,
        cotangents: Cotangents,
        directions: Directions,
        settings: AttentionSettings,
        *,
        mask_gradient: bool,
    ) -> tuple[Gradients, Tensor, Tensor]:
        """Gradients of ⟨cotangents, jvp(directions)⟩ for (q, k, v, mask), and for the cotangents: jvp(directions)."""
