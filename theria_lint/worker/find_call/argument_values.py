"""List candidate values for parameters other than q, k, v, by name, annotation and default."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from theria.probes.layouts import sequence_lengths
from theria_lint.reasons import CodedError, ReasonCode
from theria_lint.static import attention_names
from theria_lint.worker.find_call.call_strategy import ENTRY, TrialSpec, make_dropout
from theria_lint.worker.find_call.signatures import is_asked_as_condition

CU_SEQLENS_NAMES = r"^([qk]_|kv_)?cu_?(seq|[qk]_|len)|cumul\w*len|^cum_?seq|indptr|^(seq_?)?offsets(_[qk]|_kv)?$"
"""What the names of running totals of lengths look like: 0, the end of the first sequence, of the second, …"""

LENGTH_NAMES = r"(^|_)((seq|[qk]|kv|context|ctx)_?)?len(s|gths)(_[qk]|_kv)?$"
"""What the names of the lengths themselves look like, one a sequence."""

SEGMENT_NAMES = r"(segment|seg|sequence|seq|sample|doc|document)_?(ids?|idx|indices)(_[qk]|_kv)?$"
"""What the names of the numbers of the sequences look like, one a position."""

MAX_SEQLEN_NAMES = r"^max_?(seq|len|[qk]_?len|s_)"
"""What the names of the length of the longest sequence look like."""

_HOST = re.compile(r"cpu|host|list|_py$")
_OF_KEYS = re.compile(r"(^|_)(kv?|keys?|src|source|context|ctx)(_|$)")


def is_varlen_argument(name: str) -> bool:
    """Whether an argument of this name says where packed sequences end."""
    name = name.lower().strip("_")
    return any(re.search(pattern, name) for pattern in (CU_SEQLENS_NAMES, LENGTH_NAMES)) and not re.search(
        MAX_SEQLEN_NAMES, name
    )


def takes_one_length(names: Iterable[str]) -> bool:
    """Whether borders are told once, for queries and keys alike."""
    return not any(is_varlen_argument(name) and _is_of_keys(name) for name in names)


def list_varlen_parameters(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """The optional parameters that get a value where sequences are packed."""
    unset = [n for n, p in parameters.items() if p.default in (None, 0) and not _HOST.search(n.lower())]
    ends = [name for name in unset if re.search(CU_SEQLENS_NAMES, name.lower().strip("_"))]
    ends = ends or [name for name in unset if is_varlen_argument(name)]
    return ends + [name for name in unset if re.search(MAX_SEQLEN_NAMES, name.lower().strip("_"))]


def _is_of_keys(name: str) -> bool:
    return _OF_KEYS.search(name.lower()) is not None


def _list_sequence_lengths(name: str, spec: TrialSpec) -> list[int]:
    spread = spec.spread
    return sequence_lengths(spread.keys if _is_of_keys(name) else spread.queries)


def _make_integer_forms(values: Iterable[int], spec: TrialSpec) -> list[Any]:
    """As kernels take them, as indices, and as a list."""
    numbers = list(values)
    return [torch.tensor(numbers, dtype=d, device=spec.device) for d in (torch.int32, torch.int64)] + [numbers]


def make_cu_seqlens(name: str, spec: TrialSpec) -> list[Any]:
    """The ends of the sequences, after a 0; None where nothing is packed."""
    if not spec.packed:
        return [None]
    ends = torch.tensor([0, *_list_sequence_lengths(name, spec)]).cumsum(0).tolist()
    return _make_integer_forms(ends, spec)


def make_lengths(name: str, spec: TrialSpec) -> list[Any]:
    """The lengths of packed sequences; of padded ones None, or how much of each holds."""
    if spec.packed:
        return _make_integer_forms(_list_sequence_lengths(name, spec), spec)[::-1]
    length = spec.shape.keys
    return [None, *_make_integer_forms([max(1, length - 2 * i) for i in reversed(range(spec.shape.batch))], spec)]


def make_segment_ids(name: str, spec: TrialSpec) -> list[Any]:
    """The number of its sequence for each position; where nothing is packed, None or two sequences in each row."""
    if spec.packed:
        numbers = torch.repeat_interleave(torch.tensor(_list_sequence_lengths(name, spec)))
        return _make_integer_forms(numbers.tolist(), spec)[:2]
    length = spec.shape.keys if _is_of_keys(name) else spec.shape.queries
    halves = (torch.arange(length, device=spec.device) >= length // 2).to(torch.int64)
    return [None, halves.expand(spec.shape.batch, -1), halves]


def make_max_seqlen(name: str, spec: TrialSpec) -> list[Any]:
    """The length of the longest sequence."""
    shape = spec.shape
    single = shape.keys if _is_of_keys(name) else shape.queries
    return [max(_list_sequence_lengths(name, spec)) if spec.packed else single]


def make_sequence_count(name: str, spec: TrialSpec) -> list[Any]:
    """How many sequences there are."""
    return [len(_list_sequence_lengths(name, spec)) if spec.packed else spec.shape.batch]


def make_positions(name: str, spec: TrialSpec) -> list[Any]:
    """The numbers of the positions, from 0 in each sequence."""
    if spec.packed:
        return [torch.cat([torch.arange(n, device=spec.device) for n in _list_sequence_lengths(name, spec)])]
    numbers = torch.arange(spec.shape.queries, device=spec.device)
    return [None, numbers.expand(spec.shape.batch, -1), numbers, numbers.to(spec.dtype)]


SHORT_BLOCK = 4
"""A length of blocks of which a short sequence has several."""


def _make_truth_table(length: int, width: int, spec: TrialSpec) -> Tensor:
    """(length, width) of truth values: every row and column holds both, and the diagonal is true.

    So nothing is masked whole, whichever of the two says so.
    """
    row, column = torch.meshgrid(torch.arange(length), torch.arange(width), indexing="ij")
    return ((row == column) | ((row + column) % 2 == 0)).to(spec.device)


def make_masks(name: str, spec: TrialSpec) -> list[Any]:
    """None, or what masks some keys of every query: as truth values, then as numbers to multiply by or to add."""
    s = spec.spread
    whole = _make_truth_table(s.queries, s.keys, spec)
    padding = _make_truth_table(s.batch, s.keys, spec)
    shapes = [whole, whole.expand(s.batch, 1, -1, -1), padding]
    return [None, *shapes, *(mask.to(spec.dtype) for mask in shapes)]


def make_block_masks(name: str, spec: TrialSpec) -> list[Any]:
    """None, or which short blocks of keys a block of queries sees; or which keys a query does."""
    s = spec.spread
    blocks = _make_truth_table(-(-s.queries // SHORT_BLOCK), -(-s.keys // SHORT_BLOCK), spec)
    whole = _make_truth_table(s.queries, s.keys, spec)
    return [None, blocks, blocks.expand(s.batch, s.heads, -1, -1), blocks.to(torch.int32), whole]


def make_biases(name: str, spec: TrialSpec) -> list[Any]:
    """None, or what is added to the logits: as the text says, by head, by sequence and head, or alike."""
    s = spec.spread
    shapes = [(s.heads, s.queries, s.keys), (s.batch, s.heads, s.queries, s.keys), (s.queries, s.keys)]
    text_shapes = spec.find_written_shape(name)
    return [
        None,
        *(spec.draw_tensor(name, shape) for shape in dict.fromkeys([*([text_shapes] if text_shapes else []), *shapes])),
    ]


def make_slopes(name: str, spec: TrialSpec) -> list[Any]:
    """None, or a slope for each head, as ALiBi has them."""
    slopes = 2.0 ** -torch.arange(1, spec.shape.heads + 1, dtype=spec.dtype, device=spec.device)
    return [None, slopes, slopes.expand(spec.shape.batch, -1), slopes[:, None, None]]


def make_rotary_angles(name: str, spec: TrialSpec) -> list[Any]:
    """None, or the cosines or sines of rotary embeddings: for whole heads or halves of them, by the axes of q."""
    s = spec.spread
    frequencies = 10000.0 ** -(torch.arange(s.dim // 2, dtype=torch.float64) / max(1, s.dim // 2))
    half = torch.outer(torch.arange(s.queries, dtype=torch.float64), frequencies)
    turned = (half.sin() if "sin" in name else half.cos()).to(spec.device, spec.dtype)
    tables = [torch.cat((turned, turned), -1), turned]
    return [None, *tables, *(table.expand(s.batch, -1, -1) for table in tables), *(t[:, None] for t in tables)]


def make_sinks(name: str, spec: TrialSpec) -> list[Any]:
    """None, or a logit for each head."""
    return [None, spec.draw_tensor(name, (spec.shape.heads,))]


ADJACENCY_NAMES = r"^(adj(_?(mat|matrix|mask))?|adjacency(_matrix)?|graph_mask)$"
EDGE_NAMES = r"^edge_?(index|indices|list|idx)$|^edges$"


def is_graph(name: str) -> bool:
    """Whether an argument of this name is a graph."""
    return any(re.search(pattern, name.lower()) for pattern in (ADJACENCY_NAMES, EDGE_NAMES))


def make_adjacency(nodes: int, device: str) -> Tensor:
    """(N,N): 1 for an edge, else 0."""
    row, column = torch.meshgrid(torch.arange(nodes), torch.arange(nodes), indexing="ij")
    return ((row == column) | ((row + 2 * column) % 3 != 1)).to(device)


def make_edges(nodes: int, device: str) -> Tensor:
    """(2,E): the numbers of the nodes that an edge leaves and reaches."""
    return make_adjacency(nodes, device).nonzero().T.contiguous()


def make_graphs(name: str, nodes: int, dtype: torch.dtype, device: str) -> list[Tensor]:
    """A graph of some nodes in the forms that an argument of this name may want."""
    if re.search(EDGE_NAMES, name.lower()):
        return [make_edges(nodes, device)]
    whole = make_adjacency(nodes, device)
    return [whole.to(dtype), whole, whole.to(torch.int64), whole.to(dtype)[None]]


ValueMaker = Callable[[str, TrialSpec], list[Any]]
"""Candidate values for a parameter of some name, the likeliest first."""


def offer_values(*values: Any) -> ValueMaker:
    """Offer the same values whatever the name and the spec are."""
    return lambda name, spec: list(values)


def _make_fake_layer(name: str, spec: TrialSpec) -> list[Any]:
    """Stand for the module that attention functions of transformers take: they read a few attributes of it."""
    attributes = {"training": False, "num_key_value_groups": 1, "is_causal": False, "head_dim": spec.shape.dim}
    return [SimpleNamespace(**attributes, config=FakeConfig(spec), scaling=spec.shape.dim**-0.5, layer_idx=0)]


def _list_extra_shapes(name: str, spec: TrialSpec) -> list[tuple[int, ...]]:
    """The shapes that a tensor beside q, k and v may have: one number a position, a channel, a value, a head.

    The shape that the target's text gives comes first.
    """
    k, v = spec.make_qkv()["k"], spec.make_qkv()["v"]
    shapes = [tuple(k.shape[:-1]), tuple(k.shape), tuple(v.shape), (spec.shape.heads,)]
    shapes.append((spec.shape.heads, spec.shape.dim))
    text_shapes = spec.find_written_shape(name)
    return list(dict.fromkeys(([text_shapes] if text_shapes else []) + shapes))


def _make_log_decays(name: str, spec: TrialSpec) -> list[Any]:
    """Log decays: negative numbers."""
    return [torch.nn.functional.logsigmoid(spec.draw_tensor(name, shape)) for shape in _list_extra_shapes(name, spec)]


def _make_unit_values(name: str, spec: TrialSpec) -> list[Any]:
    """Numbers in (0, 1): learning rates and write strengths."""
    return [torch.sigmoid(spec.draw_tensor(name, shape)) for shape in _list_extra_shapes(name, spec)]


def _make_normal_values(name: str, spec: TrialSpec) -> list[Any]:
    """Normal numbers."""
    shapes = _list_extra_shapes(name, spec)
    shapes.insert(1 if spec.find_written_shape(name) else 0, tuple(spec.make_qkv()["q"].shape))
    return [spec.draw_tensor(name, shape) for shape in dict.fromkeys(shapes)]


def _make_number(value: float, spec: TrialSpec) -> Tensor:
    """A number that is learned."""
    return torch.tensor(value, dtype=spec.dtype, device=spec.device)


def _make_recurrent_states(name: str, spec: TrialSpec) -> list[Any]:
    """None, or what a recurrence remembers: a matrix a head."""
    shape = spec.shape
    found = spec.find_written_shape(name) or (shape.batch, shape.heads, shape.dim, shape.value_dim)
    state = spec.draw_tensor(name, found)
    return [None, state, state.to(torch.float32)]


def _make_position_graphs(name: str, spec: TrialSpec) -> list[Any]:
    """A graph of which the positions are the nodes, or the first axis holds them."""
    counts = dict.fromkeys((spec.spread.queries, spec.make_qkv()["q"].shape[0]))
    return [graph for count in counts for graph in make_graphs(name, count, spec.dtype, spec.device)]


CHUNK_NAMES = r"block|chunk|bucket|tile"
"""What the names of lengths look like that a sequence is cut into."""

_GATES = r"^(g|gk|gv|gs|g_\w+|\w+_gates?|gates?|decays?|\w+_decays?|log_\w*|forget.*|f|fg|w|alpha)$"
_RATES = r"^(beta\w*|\w+_beta|eta|theta|lr|strength)$"
_CONSTANTS = r"mask|bias|alibi|slopes|pos|rotary|rope|freqs|^(cos|sin)$|lengths|seqlens|indices|table|page|cache|state"
_REMEMBERED = (
    r"^(\w+_)?(cos|sin)(_\w+)?$|freqs|rotary|rope|lengths|seqlens|indices|ids$|table|page|cache|past|^mem"
    r"|^(?!(init(ial)?_)?(state|hidden)$)(?!initial).*state"
)
"""What the names of tables of angles, and of what earlier calls have left, look like: they are held constant."""
_PARAMETERS = (
    r"^(attn_|attention_)?sinks?$|^(rel|relative)\w*_(bias|table|emb\w*)$|^(logit_scale|temperatures?|lam|lambda_\w+)$"
    r"|bias_table$|^pos(ition)?_bias$"
)
_LEARNED = (_GATES, _RATES, _PARAMETERS)
"""What the names of gates, decays, rates and of learned logits look like: inputs as much as q, k and v are."""

_BIASES = r"bias|alibi|^pairs?$|^pair_(rep|act|emb|feat)|^rel(ative)?_?pos(itions?)?$"
"""What the names of tensors look like that are added to the logits."""

CALL_VALUES: tuple[tuple[str, ValueMaker], ...] = (
    (r"drop|^p$", make_dropout),
    (
        r"^(softmax|sm|qk|attn|attention|logits?)?_?scal(e|ing|ar)(_factor)?$|^norm_factor$",
        lambda n, s: [s.shape.dim**-0.5, None, _make_number(1.5 * s.shape.dim**-0.5, s)],
    ),
    (r"^s$", lambda n, s: [s.shape.dim**-0.5, None, *_make_normal_values(n, s)]),
    (
        r"^(temperature|temp|tau|sqrt_d.*)$",
        lambda n, s: [s.shape.dim**0.5, _make_number(0.7 * s.shape.dim**0.5, s)],
    ),
    (r"causal", offer_values(False, True)),
    (MAX_SEQLEN_NAMES, make_max_seqlen),
    (CU_SEQLENS_NAMES, make_cu_seqlens),
    (LENGTH_NAMES, make_lengths),
    (SEGMENT_NAMES, make_segment_ids),
    (r"indices|offsets|^cu_|_kwargs$|context|backend|^(a_log|dt_bias|lower_bound)$", offer_values(None)),
    (ADJACENCY_NAMES, _make_position_graphs),
    (EDGE_NAMES, _make_position_graphs),
    (r"block_?mask|mask_?block|sparse_?(mask|layout)|^layout_mask$", make_block_masks),
    (r"mask", make_masks),
    (r"slopes|^alibi$", make_slopes),
    (_BIASES, make_biases),
    (r"sinks?$", make_sinks),
    (r"seqlens|lengths|cache|past|segment|rng|page|table|sink", offer_values(None)),
    (r"^(output|return|store|save)_\w*state", offer_values(False)),
    (r"initial|state|^h0$", _make_recurrent_states),
    (r"^(pos|positions?|position_?ids|input_pos\w*)$", make_positions),
    (r"^(\w+_)?(cos|sin)(_\w+)?$", make_rotary_angles),
    (r"pos(ition)?_?(emb|ids)|rotary|rope|freqs", offer_values(None)),
    (r"^(seq|q|kv|k)_?len|^(seq|seqlen|n_ctx|n|t|l|length)$", lambda n, s: [s.shape.queries]),
    (r"(kv|key_value|k|v)_?heads?$|heads?_(kv|k)$", lambda n, s: [s.key_heads]),
    (r"group|rep(eats?)?$", lambda n, s: [s.shape.heads // s.key_heads]),
    (r"^dim_?head$|head_?(dim|size)|^d_?(k|v|q|head|h)$|^(d|dim|hdim)$", lambda n, s: [s.shape.dim]),
    (r"heads?$|^h$|^nh$", lambda n, s: [s.shape.heads]),
    (r"^(b|bs|bsz|batch|batch_size)$", make_sequence_count),
    (r"window", lambda n, s: [s.shape.keys, (-1, -1), None]),
    (CHUNK_NAMES, offer_values(16, 4, 64)),
    (r"softcap|soft_cap|tanh", offer_values(0.0, None, 5.0)),
    (r"layout|format", lambda n, s: [s.layout, s.layout.upper()]),
    (r"^(module|layer|self_attn|mod)$", _make_fake_layer),
    (r"^(config|cfg|args|hparams)$", lambda n, s: [FakeConfig(s)]),
    (_GATES, _make_log_decays),
    (_RATES, _make_unit_values),
    (r"^eps(ilon)?$", offer_values(1e-6)),
    (r"^(training|train|deterministic)$", offer_values(False)),
    (
        r"^(return|output|need|use|is|with|enable|do|allow|has|store|save)_|^(verbose|debug|inplace|reverse|normalize|head_first|varlen|transpose\w*)$",
        offer_values(False),
    ),
    (r"(layer|depth)_?(idx|id|index|num)?$", offer_values(0)),
    (r"scales?$", offer_values(None)),
)
"""By what a parameter of a function or a forward is called: its candidate values."""

CONSTRUCTOR_VALUES: tuple[tuple[str, ValueMaker], ...] = (
    (r"drop", make_dropout),
    (r"causal", offer_values(False, True)),
    (r"(kv|key_value)_?heads?$|heads?_(kv|k)$", lambda n, s: [s.shape.heads]),
    (r"group", offer_values(1)),
    (r"landmarks|(nb|num|random|rand)_features$|^num_mem|slots|clusters|experts|iter(ation)?s$", offer_values(4, 16)),
    (
        r"^dim_?heads?$|head_?(dim|size|features)|^d_?(head|k|v|q|h)$|^(key|value|qk|v)_(head_)?dim$",
        lambda n, s: [s.shape.dim],
    ),
    (r"heads?$|^nh$|^h$", lambda n, s: [s.shape.heads]),
    (
        r"dim|embd?$|hidden|channels?|width|features|d_?model|size$|^(c|d|ch|embed|emb|in_ch|out_ch)$",
        lambda n, s: [s.channels],
    ),
    (r"len|ctx|context|positions|^max_pos|tokens|seq|^n$|^t$|resolution", lambda n, s: [s.shape.queries]),
    (r"window", lambda n, s: [s.shape.keys]),
    (r"block|chunk|bucket|tile", offer_values(4, 16)),
    (r"^(config|cfg|args|hparams|params|opts?)$", lambda n, s: [FakeConfig(s)]),
    (r"depths?$|layers$", offer_values(1, 2)),  # without any nothing attends
    (r"(layer|depth)(_?(idx|id|index|num))?$|^i$", offer_values(1, 0)),
    (r"scale$|scaling$", lambda n, s: [s.shape.dim**-0.5, None]),
    (r"eps(ilon)?$", offer_values(1e-6)),
    (r"dtype", lambda n, s: [s.dtype]),
    (r"device", lambda n, s: [s.device]),
    (r"bias", offer_values(False)),
    (r"theta|base$", offer_values(10000.0)),
    (r"mask|sink|slopes|rotary|rope|pos", offer_values(None)),
)
"""By what a parameter of a constructor, or an entry of a configuration, is called: its candidate values."""


class NoSuchEntryError(CodedError, AttributeError):
    """A configuration that stands for a model's own knows nothing of an entry."""

    def __init__(self, name: str) -> None:
        """Name the entry."""
        super().__init__(ReasonCode.NO_SUCH_ENTRY, f"{AttributeError.__name__}: {name}", name=name)


class FakeConfig:
    """Stands for a model's configuration object: answers for any entry whose name says what it is."""

    def __init__(self, spec: TrialSpec) -> None:
        """Answers with the sizes of a spec."""
        self._spec = spec

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise NoSuchEntryError(name)
        turned = self._spec.list_turned(ENTRY)
        if name in turned:
            return turned[name]
        if name.startswith("_attn_implementation"):
            return "eager"
        values = find_values_by_name(name, CONSTRUCTOR_VALUES, self._spec)
        if not values and not is_asked_as_condition():
            raise NoSuchEntryError(name)
        return values[0] if values else False  # a switch that nobody has turned

    def get(self, name: str, default: Any = None) -> Any:
        """The entry, or the default where its name says nothing."""
        return getattr(self, name, default)

    __getitem__ = __getattr__


def list_candidates(
    parameter: inspect.Parameter, spec: TrialSpec, table: tuple[tuple[str, ValueMaker], ...]
) -> list[Any]:
    """Values to try for a required parameter; never empty, since None can always be tried."""
    if parameter.name.lower() in attention_names.ATTENTION_PARAMETERS:
        return [spec.base]
    by_annotation = list(_list_values_by_annotation(parameter, spec))
    values = find_values_by_name(parameter.name, table, spec)
    if not values and parameter.name.lower() in attention_names.FUNCTION_PARAMETERS:
        return [spec.base, *by_annotation]
    if parameter.default is inspect.Parameter.empty and re.search(_BIASES, parameter.name.lower().strip("_")):
        values = sorted(values, key=lambda value: value is None)  # what has to be given is given as a tensor
    text_shapes = spec.find_written_shape(parameter.name)
    if text_shapes and not any(isinstance(value, torch.Tensor) for value in values) and None not in values:
        values = _make_normal_values(parameter.name, spec)
    elif text_shapes:
        values = sorted(values, key=lambda value: isinstance(value, torch.Tensor) and tuple(value.shape) != text_shapes)
    fitting = [v for v in values if _fits_annotation(v, str(parameter.annotation))]
    return fitting or by_annotation or values or _list_fallback_values(parameter.name, spec)


def _list_fallback_values(name: str, spec: TrialSpec) -> list[Any]:
    """None, numbers, and what masks some keys."""
    return [None, *_make_normal_values(name, spec)[:2], 1, False, *make_masks(name, spec)[1:3]]


_NUMBERS = r"^(sm_|softmax_|qk_|attn_)?(scale|scaling|scale_factor)$|eps|dropout|softcap|^p$"
"""Names of parameters of an ``autograd.Function`` that are Python numbers wherever they are given."""


def may_be_differentiated(name: str) -> bool:
    """Whether a tensor of this name is learned or computed from what is: not a mask, positions or a table of angles."""
    return is_learned(name) or re.search(_CONSTANTS, name.lower().strip("_")) is None


def is_learned(name: str) -> bool:
    """Whether a tensor of this name is a gate, a decay or a rate."""
    return any(re.search(pattern, name.lower().strip("_")) for pattern in _LEARNED)


def may_be_learned(name: str) -> bool:
    """Whether a caller could learn a tensor of this name: a bias, a mask that is added, pairs, positions; no memory."""
    return re.search(_REMEMBERED, name.lower().strip("_")) is None


def is_number_by_convention(name: str) -> bool:
    """Whether an ``autograd.Function`` is given a Python number under this name: its backward returns None for it."""
    return re.search(_NUMBERS, name.lower().strip("_")) is not None


def is_known_by_name(name: str) -> bool:
    """Whether the name of a function's parameter tells what it is given."""
    return any(re.search(pattern, name.lower().strip("_")) for pattern, _ in CALL_VALUES)


def find_values_by_name(name: str, table: tuple[tuple[str, ValueMaker], ...], spec: TrialSpec) -> list[Any]:
    """The values that a name suggests, none where it says nothing."""
    name = name.lower().strip("_")
    return next((values(name, spec) for pattern, values in table if re.search(pattern, name)), [])


def _list_values_by_annotation(parameter: inspect.Parameter, spec: TrialSpec) -> Iterator[Any]:
    annotation = str(parameter.annotation).lower()
    if "callable" in annotation:
        yield spec.base
    if "optional" in annotation or "none" in annotation:
        yield None
    if "bool" in annotation:
        yield False
    elif "int" in annotation:
        yield from (1, spec.shape.queries)
    elif "float" in annotation:
        yield 1.0
    elif "tensor" in annotation:
        yield from _make_normal_values(parameter.name, spec)


def _fits_annotation(value: Any, annotation: str) -> bool:
    """Whether a value is not plainly at odds with an annotation."""
    annotation = annotation.lower()
    if "bool" in annotation and "none" not in annotation and "optional" not in annotation:
        return isinstance(value, bool)
    if annotation.endswith("tensor'>") or annotation in ("tensor", "torch.tensor"):
        return isinstance(value, torch.Tensor)
    return True
