"""Values for the parameters of a target that are not q, k, v: read off their names, annotations and defaults."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from theria_lint.static import attention_names
from theria_lint.worker.find_call import varlen
from theria_lint.worker.find_call.trial_spec import Scene

SHORT = 4
"""A length of blocks of which a short sequence has several."""


def _cut(length: int, width: int, scene: Scene) -> Tensor:
    """(length, width) of truth values: every row and column holds both, and the diagonal is true.

    So nothing is masked whole, whichever of the two says so.
    """
    row, column = torch.meshgrid(torch.arange(length), torch.arange(width), indexing="ij")
    return ((row == column) | ((row + column) % 2 == 0)).to(scene.device)


def masks(name: str, scene: Scene) -> list[Any]:
    """None, or what masks some keys of every query: as truth values, then as numbers to multiply by or to add."""
    s = scene.spread
    whole = _cut(s.queries, s.keys, scene)
    padding = _cut(s.batch, s.keys, scene)
    shapes = [whole, whole.expand(s.batch, 1, -1, -1), padding]
    return [None, *shapes, *(mask.to(scene.dtype) for mask in shapes)]


def block_masks(name: str, scene: Scene) -> list[Any]:
    """None, or which short blocks of keys a block of queries sees."""
    s = scene.spread
    blocks = _cut(-(-s.queries // SHORT), -(-s.keys // SHORT), scene)
    return [None, blocks, blocks.expand(s.batch, s.heads, -1, -1), blocks.to(torch.int32)]


def biases(name: str, scene: Scene) -> list[Any]:
    """None, or what is added to the logits: as the text says, by head, by sequence and head, or alike."""
    s = scene.spread
    shapes = [(s.heads, s.queries, s.keys), (s.batch, s.heads, s.queries, s.keys), (s.queries, s.keys)]
    written = scene.written_shape(name)
    return [None, *(scene.tensor(name, shape) for shape in dict.fromkeys([*([written] if written else []), *shapes]))]


def slopes(name: str, scene: Scene) -> list[Any]:
    """None, or a slope for each head, as ALiBi has them."""
    slopes = 2.0 ** -torch.arange(1, scene.shape.heads + 1, dtype=scene.dtype, device=scene.device)
    return [None, slopes, slopes.expand(scene.shape.batch, -1), slopes[:, None, None]]


def angles(name: str, scene: Scene) -> list[Any]:
    """None, or the cosines or sines of rotary embeddings: for whole heads or halves of them, by the axes of q."""
    s = scene.spread
    frequencies = 10000.0 ** -(torch.arange(s.dim // 2, dtype=torch.float64) / max(1, s.dim // 2))
    half = torch.outer(torch.arange(s.queries, dtype=torch.float64), frequencies)
    turned = (half.sin() if "sin" in name else half.cos()).to(scene.device, scene.dtype)
    tables = [torch.cat((turned, turned), -1), turned]
    return [None, *tables, *(table.expand(s.batch, -1, -1) for table in tables), *(t[:, None] for t in tables)]


def sinks(name: str, scene: Scene) -> list[Any]:
    """None, or a logit for each head."""
    return [None, scene.tensor(name, (scene.shape.heads,))]


ADJACENCY = r"^(adj(_?(mat|matrix|mask))?|adjacency(_matrix)?|graph_mask)$"
EDGES = r"^edge_?(index|indices|list|idx)$|^edges$"


def is_graph(name: str) -> bool:
    """Whether an argument of this name is a graph."""
    return any(re.search(pattern, name.lower()) for pattern in (ADJACENCY, EDGES))


def adjacency(nodes: int, device: str) -> Tensor:
    """(N,N): 1 for an edge, else 0."""
    row, column = torch.meshgrid(torch.arange(nodes), torch.arange(nodes), indexing="ij")
    return ((row == column) | ((row + 2 * column) % 3 != 1)).to(device)


def edges(nodes: int, device: str) -> Tensor:
    """(2,E): the numbers of the nodes that an edge leaves and reaches."""
    return adjacency(nodes, device).nonzero().T.contiguous()


def graphs(name: str, nodes: int, dtype: torch.dtype, device: str) -> list[Tensor]:
    """A graph of some nodes in the forms that an argument of this name may want."""
    if re.search(EDGES, name.lower()):
        return [edges(nodes, device)]
    whole = adjacency(nodes, device)
    return [whole.to(dtype), whole, whole.to(torch.int64), whole.to(dtype)[None]]


Values = Callable[[str, Scene], list[Any]]
"""Candidate values for a parameter of some name, the likeliest first."""


def _constant(*values: Any) -> Values:
    return lambda name, scene: list(values)


def _module(name: str, scene: Scene) -> list[Any]:
    """Stands for the module that attention functions of transformers take: they read a few attributes of it."""
    attributes = {"training": False, "num_key_value_groups": 1, "is_causal": False, "head_dim": scene.shape.dim}
    return [SimpleNamespace(**attributes, config=Config(scene), scaling=scene.shape.dim**-0.5, layer_idx=0)]


def _extra_shapes(name: str, scene: Scene) -> list[tuple[int, ...]]:
    """The shapes that a tensor beside q, k and v may have: one number a position, a channel, a value, a head.

    The shape that the target's text gives comes first.
    """
    k, v = scene.qkv()["k"], scene.qkv()["v"]
    shapes = [tuple(k.shape[:-1]), tuple(k.shape), tuple(v.shape), (scene.shape.heads,)]
    shapes.append((scene.shape.heads, scene.shape.dim))
    written = scene.written_shape(name)
    return list(dict.fromkeys(([written] if written else []) + shapes))


def _gate(name: str, scene: Scene) -> list[Any]:
    """Log decays: negative numbers."""
    return [torch.nn.functional.logsigmoid(scene.tensor(name, shape)) for shape in _extra_shapes(name, scene)]


def _unit(name: str, scene: Scene) -> list[Any]:
    """Numbers in (0, 1): learning rates and write strengths."""
    return [torch.sigmoid(scene.tensor(name, shape)) for shape in _extra_shapes(name, scene)]


def _any(name: str, scene: Scene) -> list[Any]:
    """Normal numbers."""
    shapes = _extra_shapes(name, scene)
    shapes.insert(1 if scene.written_shape(name) else 0, tuple(scene.qkv()["q"].shape))
    return [scene.tensor(name, shape) for shape in dict.fromkeys(shapes)]


def _state(name: str, scene: Scene) -> list[Any]:
    """None, or what a recurrence remembers: a matrix a head."""
    shape = scene.shape
    found = scene.written_shape(name) or (shape.batch, shape.heads, shape.dim, shape.value_dim)
    return [None, scene.tensor(name, found).to(torch.float32)]


def _graph(name: str, scene: Scene) -> list[Any]:
    """A graph of which the positions are the nodes, or the first axis holds them."""
    counts = dict.fromkeys((scene.spread.queries, scene.qkv()["q"].shape[0]))
    return [graph for count in counts for graph in graphs(name, count, scene.dtype, scene.device)]


CHUNKS = r"block|chunk|bucket|tile"
"""What the names of lengths look like that a sequence is cut into."""

_GATES = r"^(g|gk|gv|gs|g_\w+|\w+_gates?|gates?|decays?|\w+_decays?|log_\w*|forget.*|f|fg|w|alpha)$"
_RATES = r"^(beta\w*|\w+_beta|eta|theta|lr|strength)$"
_CONSTANTS = r"mask|bias|alibi|slopes|pos|rotary|rope|freqs|^(cos|sin)$|lengths|seqlens|indices|table|page|cache|state"
_REMEMBERED = (
    r"^(\w+_)?(cos|sin)(_\w+)?$|freqs|rotary|rope|lengths|seqlens|indices|ids$|table|page|cache|state|past|^mem"
)
"""What the names of tables of angles, and of what earlier calls have left, look like: they are held constant."""
_PARAMETERS = (
    r"^(attn_|attention_)?sinks?$|^(rel|relative)\w*_(bias|table|emb\w*)$|^(logit_scale|temperatures?|lam|lambda_\w+)$"
    r"|bias_table$|^pos(ition)?_bias$"
)
_LEARNED = (_GATES, _RATES, _PARAMETERS)
"""What the names of gates, decays, rates and of learned logits look like: inputs as much as q, k and v are."""

CALL: tuple[tuple[str, Values], ...] = (
    (r"drop|^p$", _constant(0.0)),
    (
        r"^(softmax|sm|qk|attn|attention|logits?)?_?scal(e|ing|ar)(_factor)?$|^norm_factor$",
        lambda n, s: [s.shape.dim**-0.5, None],
    ),
    (r"^s$", lambda n, s: [s.shape.dim**-0.5, None, *_any(n, s)]),
    (r"^(temperature|temp|tau|sqrt_d.*)$", lambda n, s: [s.shape.dim**0.5]),
    (r"causal", _constant(False, True)),
    (varlen.LONGEST, varlen.longest),
    (varlen.BORDERS, varlen.borders),
    (varlen.LENGTHS, varlen.lengths),
    (varlen.SEGMENTS, varlen.segments),
    (r"indices|offsets|^cu_|_kwargs$|context|backend|^(a_log|dt_bias|lower_bound)$", _constant(None)),
    (ADJACENCY, _graph),
    (EDGES, _graph),
    (r"block_?mask|mask_?block|sparse_?(mask|layout)|^layout_mask$", block_masks),
    (r"mask", masks),
    (r"slopes|^alibi$", slopes),
    (r"bias|alibi|^pairs?$|^pair_(rep|act|emb|feat)|^rel(ative)?_?pos(itions?)?$", biases),
    (r"sinks?$", sinks),
    (r"seqlens|lengths|cache|past|segment|rng|page|table|sink", _constant(None)),
    (r"^(output|return|store|save)_\w*state", _constant(False)),
    (r"initial|state|^h0$", _state),
    (r"^(pos|positions?|position_?ids|input_pos\w*)$", varlen.positions),
    (r"^(\w+_)?(cos|sin)(_\w+)?$", angles),
    (r"pos(ition)?_?(emb|ids)|rotary|rope|freqs", _constant(None)),
    (r"^(seq|q|kv|k)_?len|^(seq|seqlen|n_ctx|n|t|l|length)$", lambda n, s: [s.shape.queries]),
    (r"(kv|key_value|k|v)_?heads?$|heads?_(kv|k)$", lambda n, s: [s.key_heads]),
    (r"group|rep(eats?)?$", lambda n, s: [s.shape.heads // s.key_heads]),
    (r"^dim_?head$|head_?(dim|size)|^d_?(k|v|q|head|h)$|^(d|dim|hdim)$", lambda n, s: [s.shape.dim]),
    (r"heads?$|^h$|^nh$", lambda n, s: [s.shape.heads]),
    (r"^(b|bs|bsz|batch|batch_size)$", varlen.sequences),
    (r"window", lambda n, s: [s.shape.keys, (-1, -1), None]),
    (CHUNKS, _constant(16, 4, 64)),
    (r"softcap|soft_cap|tanh", _constant(0.0, None)),
    (r"layout|format", lambda n, s: [s.layout, s.layout.upper()]),
    (r"^(module|layer|self_attn|mod)$", _module),
    (r"^(config|cfg|args|hparams)$", lambda n, s: [Config(s)]),
    (_GATES, _gate),
    (_RATES, _unit),
    (r"^eps(ilon)?$", _constant(1e-6)),
    (r"^(training|train|deterministic)$", _constant(False)),
    (
        r"^(return|output|need|use|is|with|enable|do|allow|has|store|save)_|^(verbose|debug|inplace|reverse|normalize|head_first|varlen|transpose\w*)$",
        _constant(False),
    ),
    (r"(layer|depth)_?(idx|id|index|num)?$", _constant(0)),
    (r"scales?$", _constant(None)),
)
"""By what a parameter of a function or a forward is called: its candidate values."""

BUILD: tuple[tuple[str, Values], ...] = (
    (r"drop", _constant(0.0)),
    (r"causal", _constant(False, True)),
    (r"(kv|key_value)_?heads?$|heads?_(kv|k)$", lambda n, s: [s.shape.heads]),
    (r"group", _constant(1)),
    (r"landmarks|features$|^num_mem|slots|clusters|experts|iter(ation)?s$", _constant(4, 16)),
    (r"^dim_?heads?$|head_?(dim|size)|^d_?(head|k|v|q|h)$|^(key|value|qk|v)_(head_)?dim$", lambda n, s: [s.shape.dim]),
    (r"heads?$|^nh$|^h$", lambda n, s: [s.shape.heads]),
    (
        r"dim|embd?$|hidden|channels?|width|features|d_?model|size$|^(c|d|ch|embed|emb|in_ch|out_ch)$",
        lambda n, s: [s.channels],
    ),
    (r"len|ctx|context|positions|^max_pos|tokens|seq|^n$|^t$|resolution", lambda n, s: [s.shape.queries]),
    (r"window", lambda n, s: [s.shape.keys]),
    (r"block|chunk|bucket|tile", _constant(4, 16)),
    (r"^(config|cfg|args|hparams|params|opts?)$", lambda n, s: [Config(s)]),
    (r"(layer|depth)(_?(idx|id|index|num))?$|^i$|layers$", _constant(1, 0)),
    (r"scale$|scaling$", lambda n, s: [s.shape.dim**-0.5, None]),
    (r"eps(ilon)?$", _constant(1e-6)),
    (r"dtype", lambda n, s: [s.dtype]),
    (r"device", lambda n, s: [s.device]),
    (r"bias", _constant(False)),
    (r"theta|base$", _constant(10000.0)),
    (r"mask|sink|slopes|rotary|rope|pos", _constant(None)),
)
"""By what a parameter of a constructor, or an entry of a configuration, is called: its candidate values."""


class Config:
    """Stands for a model's configuration object: answers for any entry whose name says what it is."""

    def __init__(self, scene: Scene) -> None:
        """Answers with the sizes of a scene."""
        self._scene = scene

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_attn_implementation"):
            return "eager"
        values = [] if name.startswith("__") else by_name(name, BUILD, self._scene)
        if not values:
            raise AttributeError(f"the configuration has no entry {name!r}")
        return values[0]

    def get(self, name: str, default: Any = None) -> Any:
        """The entry, or the default where its name says nothing."""
        return getattr(self, name, default)

    __getitem__ = __getattr__


def candidates(parameter: inspect.Parameter, scene: Scene, table: tuple[tuple[str, Values], ...]) -> list[Any]:
    """Values to try for a required parameter; never empty, since None can always be tried."""
    if parameter.name.lower() in attention_names.ATTENTION_PARAMETERS:
        return [scene.base]
    by_annotation = list(_by_annotation(parameter, scene))
    values = by_name(parameter.name, table, scene)
    if not values and parameter.name.lower() in attention_names.FUNCTION_PARAMETERS:
        return [scene.base, *by_annotation]
    written = scene.written_shape(parameter.name)
    if written and not _tensors(values) and None not in values:
        values = _any(parameter.name, scene)
    elif written:
        values = sorted(values, key=lambda value: isinstance(value, torch.Tensor) and tuple(value.shape) != written)
    fitting = [v for v in values if _fits(v, str(parameter.annotation))]
    return fitting or by_annotation or values or _unknown(parameter.name, scene)


def _unknown(name: str, scene: Scene) -> list[Any]:
    """None, numbers, and what masks some keys."""
    return [None, *_any(name, scene)[:2], 1, False, *masks(name, scene)[1:3]]


def may_be_differentiated(name: str) -> bool:
    """Whether a tensor of this name is learned or computed from what is: not a mask, positions or a table of angles."""
    return is_learned(name) or re.search(_CONSTANTS, name.lower().strip("_")) is None


def is_learned(name: str) -> bool:
    """Whether a tensor of this name is a gate, a decay or a rate."""
    return any(re.search(pattern, name.lower().strip("_")) for pattern in _LEARNED)


def may_be_learned(name: str) -> bool:
    """Whether a caller could learn a tensor of this name: a bias, a mask that is added, pairs, positions; no memory."""
    return re.search(_REMEMBERED, name.lower().strip("_")) is None


def is_known(name: str) -> bool:
    """Whether the name of a function's parameter tells what it is given."""
    return any(re.search(pattern, name.lower().strip("_")) for pattern, _ in CALL)


def _tensors(values: list[Any]) -> bool:
    return any(isinstance(value, torch.Tensor) for value in values)


def by_name(name: str, table: tuple[tuple[str, Values], ...], scene: Scene) -> list[Any]:
    """The values that a name suggests, none where it says nothing."""
    name = name.lower().strip("_")
    return next((values(name, scene) for pattern, values in table if re.search(pattern, name)), [])


def _by_annotation(parameter: inspect.Parameter, scene: Scene) -> Iterator[Any]:
    annotation = str(parameter.annotation).lower()
    if "callable" in annotation:
        yield scene.base
    if "optional" in annotation or "none" in annotation:
        yield None
    if "bool" in annotation:
        yield False
    elif "int" in annotation:
        yield from (1, scene.shape.queries)
    elif "float" in annotation:
        yield 1.0
    elif "tensor" in annotation:
        yield from _any(parameter.name, scene)


def _fits(value: Any, annotation: str) -> bool:
    """Whether a value is not plainly at odds with an annotation."""
    annotation = annotation.lower()
    if "bool" in annotation and "none" not in annotation and "optional" not in annotation:
        return isinstance(value, bool)
    if annotation.endswith("tensor'>") or annotation in ("tensor", "torch.tensor"):
        return isinstance(value, torch.Tensor)
    return True
