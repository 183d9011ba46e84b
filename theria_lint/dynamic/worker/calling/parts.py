"""Candidate values for what a module is built from, by the names that people give them."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from theria_lint.dynamic.worker.calling.arguments import BUILD, Config, Values, by_name
from theria_lint.dynamic.worker.calling.scene import Scene
from theria_lint.dynamic.worker.calling.sizes import few, part, side

Table = tuple[tuple[str, Values], ...]

_WIDEST = 4
"""A window of a sequence is no wider: a width that grew with the sequence would never fit what it asks for."""


def suggests(name: str, table: Table) -> bool:
    """Whether a table has values for a name."""
    return any(re.search(pattern, name.lower().strip("_")) for pattern, _ in table)


class Passing(nn.Module):
    """Stands for a layer that is given to a module: returns its first argument."""

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """What it is given."""
        return x


class Settings(Config):
    """Stands for a model's configuration: names its activation, and else answers as constructors are answered."""

    def __getattr__(self, name: str) -> Any:
        if name in ("hidden_act", "hidden_activation", "activation_function"):
            return "gelu"
        values = [] if name.startswith("_") else by_name(name, MODULE_BUILD, self._scene)
        return values[0] if values else super().__getattr__(name)

    __getitem__ = __getattr__


def _constant(*values: Any) -> Values:
    return lambda name, scene: list(values)


def _sides(name: str, scene: Scene) -> list[Any]:
    """The height or width of an image, as a number or a pair."""
    return [side(scene), (side(scene), side(scene))]


def _windows(name: str, scene: Scene) -> list[Any]:
    """Windows smaller than what they slide over: one that holds everything is never left by anything."""
    across = max(1, side(scene) // 2)
    one = min(part(scene), _WIDEST)
    return [
        one,
        (across, across),
        scene.shape.queries,
        across,
        side(scene),
        (side(scene), side(scene)),
        (1, across, across),
    ]


def _counts(name: str, scene: Scene) -> list[Any]:
    """How many tokens are selected, or stand for the others."""
    return [few(scene), scene.shape.queries]


MODULE_BUILD: Table = (
    (r"drop", _constant(0.0)),
    (
        r"^(in|out|input|output|embed|node|edge)_?(feat(ure)?s?|channels|chans|planes)$|^(in)?planes$|feats?$",
        lambda n, s: [s.channels],
    ),
    (r"^c_\w+$|^d_?(ff|inner|hid|in|out|emb|qkv?|kv|v)$|(^|_)inner(_|$)", lambda n, s: [s.channels]),
    (r"rank$", lambda n, s: [s.shape.dim]),
    (r"patch", _constant(2, 1, (2, 2))),
    (r"fmap|feat(ure)?_?(map_?)?size|^[hw]_s$|^(h|w|height|width)$|^spa[ct]i\w*_?(dim|size|res\w*)?$", _sides),
    (r"resolution|(img|image|input|spatial)_size|grid", _sides),
    (r"window", _windows),
    (r"block|chunk|bucket|tile", lambda n, s: [2, 4, 16, part(s), s.shape.queries]),
    (r"halo|overlap", _constant(1, 2)),
    (r"^num_\w*tokens(_\w+)?$|^num_(selected|routed|heavy)|top_?k|capacity|num_keep", _counts),
    (
        r"slots|quer(y|ies)$|latents?$|inds?$|seeds?$|prototypes",
        lambda n, s: [few(s) + 1, s.shape.queries, s.shape.keys, side(s)],
    ),
    (r"frames$", lambda n, s: [side(s), s.shape.queries, 2]),
    (r"seg(ment)?_|segment", lambda n, s: [part(s), s.shape.queries]),
    (r"temperature|^(temp|tau)$", _constant(1.0)),
    (r"iter(s|ations?)?$", _constant(3)),
    (r"^chans?$|_chans?$", lambda n, s: [s.channels]),
    (r"norm(_?(layer|fn|cls|class))?$", _constant(nn.LayerNorm, nn.Identity, False, None)),
    (r"act(ivation)?(_?(layer|fn|func|function))?$|nonlinearity", _constant(nn.GELU, nn.functional.gelu, "gelu")),
    (r"^(feed_?forward|ffn?|mlp|net|block|layer|module)$", lambda n, s: [Passing(), s.base]),
    (r"^(fn|f|func|function|inner|to_q|to_kv?|proj)$", lambda n, s: [s.base, Passing()]),
    (r"kernel(_?size)?$", _constant(3, 1)),
    (r"stride|dilation|(sr|reduction|compress\w*)_?(ratio|factor)?$", _constant(1, 2)),
    (r"padding", _constant(1, 0)),
    (r"(ratio|mult|factor|expansion)$", _constant(2, 1.0)),
    (r"alpha|slope|gamma|^beta$|init_val\w*$", _constant(0.2, 1)),
    (r"hiddens$|dims$", lambda n, s: [(s.channels, s.channels), s.channels]),
    (r"vocab|num_embeddings|buckets|max_(rel|dist)\w*", _constant(8)),
    (r"levels$", _constant(1, 2)),
    (r"scales$|points|samples|hashes|rounds", _constant(2, 1, 4)),
    (r"^max_(batch|bs)\w*", lambda n, s: [s.shape.batch]),
    (
        r"^(use|is|has|with|enable|add|do|allow|learn\w*|return|share\w*)_|flash|bidirectional|concat|^(ln|layer_?norm)$",
        _constant(False),
    ),
    (r"^(config|cfg|args|hparams|params|opts?)$", lambda n, s: [Settings(s)]),
    *BUILD,
)
"""By what a parameter of a module's constructor is called: its candidate values."""
