"""Recognise attention by name: identifiers, parameters, operations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache


def make_word_set(text: str) -> frozenset[str]:
    """The words of a text, for tables too long to read as a list."""
    return frozenset(text.split())


ATTENTION_ACRONYMS = frozenset({"sdpa", "mha", "mqa", "gqa", "mla", "attend", "attender"})
# What a name says beside "attention" when the thing is about attention without computing it.
FUNCTION_BYSTANDERS = make_word_set(
    "mask masks masking maskmod config configs cfg test tests bench benchmark init initialize load save convert check "
    "validate is has supports support register parse plot show print log get set enable disable available use "
    "metadata shape shapes size sizes flops type types name names prune reset map maps slicing pattern patterns "
    "implementation implementations impl backend backends processor processors dispatcher cache key keys "
    "kwargs num fuse rotate guidance outputs hidden upcast probs weights scores entropy recorder store "
    "replace swap patch monkeypatch from to update prepare create schedule"
)
CLASS_BYSTANDERS = make_word_set(
    "mask masks config configs cfg test tests tester output outputs metadata builder backend cache type enum error "
    "pipeline kwargs args spec params settings options state mode modes impl interface protocol dispatcher benchmark "
    "factory registry loader converter mapping strategy converters test case warning info stats visualizer"
)
# Functions and classes of these names watch attention, train it, or build it: nobody differentiates twice through them.
_BYSTANDERS = make_word_set(
    "eval evaluate evaluation evaluator evaluating validate validation validator val test tests tester testing predict "
    "prediction predictor infer inference sample samples sampler sampling generate generation generator decode "
    "visualize visualise visualizer visualiser visualization visualisation plot plots draw show heatmap heatmaps "
    "rollout log logs logger logging print dump record recorder monitor debug inspect analyze analyse analysis stats "
    "statistics metric metrics accuracy recall precision perplexity summary summarize profile profiler benchmark bench "
    "export trace train trainer training fit epoch epochs main ema build builder make create get register load save "
    "wrap patch convert replace setup configure init initialize dataset loader pipeline callback config count info "
    "loss losses criterion reset collate preprocess parse prepare download upload ckpt prompt tokenize pretrained"
)
# Of these the words of functions that look at attention, even where they compute it.
_OBSERVERS = make_word_set(
    "evaluate evaluation evaluator validation plot plots visualize visualise visualizer visualiser visualization "
    "visualisation draw show heatmap heatmaps metric metrics accuracy recall precision perplexity monitor debug "
    "inspect analyze analyse statistics stats ema logging logger recorder profiler"
)
_KEEPERS = frozenset({"cache", "caches", "buffer", "bank", "store", "pool", "queue", "config", "output", "outputs"})
_MEMORIES = frozenset({"ttt", "memory", "memories", "titans", "fastweight", "fastweights"})
# Parts of attention, and what stands beside it, by the words that their names add to it.
_PARTS = make_word_set("drop dropout norm layernorm rmsnorm proj projection out mask bias scale gate pos heads dim")
# The names of operations that attend, as a pattern.
OPERATION = (
    r"(?:scaled_dot_product_\w*attention|multi_head_attention_forward|flex_attention|memory_efficient_attention\w*"
    r"|_?flash_attn\w*func|flash_attention\w*|sageattn\w*|xformers_attention|edge_softmax)"
)
# Functions of these names make inputs and measure; what they do to tensors is their own affair.
_TRIAL_WORDS = frozenset({"bench", "benchmark", "benchmarks", "generate", "profile"})
_PREPARING_WORDS = make_word_set(
    "validate check assert verify ensure pad unpad pack unpack split merge reshape rearrange repeat expand permute "
    "transpose shuffle shard gather scatter save load log print init prepare normalize quantize"
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

_ROLES = {
    "q": frozenset({"q", "xq", "qs", "query", "queries", "qry"}),
    "k": frozenset({"k", "xk", "ks", "key", "keys"}),
    "v": frozenset({"v", "xv", "vs", "value", "values", "val", "vals"}),
    "qkv": frozenset({"qkv", "qkvs", "qkvpacked", "packedqkv", "mixedqkv"}),
    "kv": frozenset({"kv", "kvpacked", "mixedkv"}),
}
_ROLE_OF = {name: role for role, names in _ROLES.items() for name in names}
_ROLE_SUFFIX = re.compile(
    r"_*(states?|layers?|tensors?|heads?|proj|projected|inputs?|in|chunks?|blocks?|local|padded|unpad|flat|packed|emb"
    r"|embed|vectors?|seq|4d|3d|bhtd|bthd|bhnd|btd)$"
)
COTANGENTS = re.compile(
    r"^(d_?(o|out|output|outputs|q|k|v|y)|grads?|grad_?(o|out|outs|output|outputs|y)|g_?out|gout|dout_.*|do_.*)$"
)
ATTENTION_PARAMETERS = make_word_set(
    "attn attn_fn attn_func attention attention_fn attention_func attention_function attn_function attn_impl base "
    "base_attn base_attention base_fn inner_attn sdpa sdpa_fn kernel_fn attend"
)
# A function of this name takes an attention function only if it also makes one.
FUNCTION_PARAMETERS = ATTENTION_PARAMETERS | {"fn", "func", "f", "function", "inner", "kernel", "op", "forward_fn"}

# Sizes and positions by the names that people give them: no derivative flows through those.
_SIZE = re.compile(
    r"(^|_)(len|lens|length|lengths|seqlen|seqlens|idx|index|indices|mask|masks|num|count|counts|pos|position|positions|"
    r"size|sizes|rng|seed|philox|heads?|step|steps|offset|offsets|cu|ids?|shape|shapes|stride|grid|level|levels|batch|causal|dim|dims)(_|s?$)"
)


def split_words(identifier: str) -> list[str]:
    """The lower-case words of a snake_case or CamelCase identifier."""
    return [word.lower() for word in _WORD.findall(identifier)]


@lru_cache(maxsize=8192)
def names_attention(identifier: str) -> bool:
    """Whether an identifier mentions attention at all: ``flash_attn_func``, ``SelfAttention``, ``mha``."""
    lower = identifier.lower()
    if "attn" in lower or "attention" in lower:
        return True
    return any(acronym in lower for acronym in ATTENTION_ACRONYMS) and not ATTENTION_ACRONYMS.isdisjoint(
        split_words(identifier)
    )


def is_attention_function_name(name: str) -> bool:
    """Whether a function of this name computes attention, as far as its name can tell."""
    return names_attention(name) and FUNCTION_BYSTANDERS.isdisjoint(split_words(name)) and not is_test_name(name)


def is_preparation_name(name: str) -> bool:
    """Whether a function is named after what it does to q, k and v before they meet: ``check_qkv``, ``pad_inputs``."""
    return bool(split_words(name)) and split_words(name)[0] in _PREPARING_WORDS and not names_attention(name)


def is_attention_class_name(name: str) -> bool:
    """Whether a class of this name computes attention, as far as its name can tell."""
    return names_attention(name) and CLASS_BYSTANDERS.isdisjoint(split_words(name))


def keeps_tensors(name: str) -> bool:
    """Whether a class of this name keeps keys and values, and computes nothing: ``KVCache``."""
    return not _KEEPERS.isdisjoint(split_words(name))


def is_observer_name(name: str) -> bool:
    """Whether a function is named after looking at attention."""
    return not _OBSERVERS.isdisjoint(split_words(name))


def is_memory_name(name: str) -> bool:
    """Whether something is named after a memory that is written by gradient steps: ``TTTLayer``, ``FastWeights``."""
    said = split_words(name)
    return not _MEMORIES.isdisjoint(said) or {"fast", "weight"} <= {word.removesuffix("s") for word in said}


def is_attending_class_name(name: str) -> bool:
    """Whether the instances of a class of another file attend, as far as its name can tell: transformers do."""
    said = split_words(name)
    return is_attention_class_name(name) or ("transformer" in said and CLASS_BYSTANDERS.isdisjoint(said))


def is_attention_member_name(name: str) -> bool:
    """Whether a member of this name is called to attend, as far as its name can tell: ``self.self_attn(…)``."""
    return is_attention_function_name(name) and _PARTS.isdisjoint(split_words(name))


@lru_cache(maxsize=8192)
def is_bystander_name(name: str) -> bool:
    """Whether a function or class is named after watching, training or building what it runs."""
    return not _BYSTANDERS.isdisjoint(split_words(name))


def is_test_name(name: str) -> bool:
    """Whether a function of this name is a test or a benchmark, which runs attention but is none."""
    return name.startswith("test_") or name in {"test", "main"} or not _TRIAL_WORDS.isdisjoint(split_words(name))


@lru_cache(maxsize=8192)
def get_role(parameter: str) -> str | None:
    """Which of q, k, v, qkv, kv a parameter of this name is, None for any other."""
    name = parameter.lower().strip("_")
    stripped = _ROLE_SUFFIX.sub("", name)
    return _ROLE_OF.get(name) or _ROLE_OF.get(stripped.replace("_", "").rstrip("0123456789"))


def collect_roles(parameters: Iterable[str]) -> frozenset[str]:
    """The attention roles that a parameter list fills."""
    return frozenset(found for found in map(get_role, parameters) if found)


def takes_qkv(parameters: Iterable[str]) -> bool:
    """Whether a parameter list holds a query, a key and a value."""
    return {"q", "k", "v"} <= collect_roles(parameters)


def takes_packed(parameters: Sequence[str]) -> bool:
    """Whether a parameter list holds q, k and v in fewer tensors: a packed qkv, or q beside a packed kv."""
    found = collect_roles(parameters)
    return "qkv" in found or {"q", "kv"} <= found


def is_size_name(name: str) -> bool:
    """Whether a value of this name is a size or a position, as far as its name can tell."""
    return _SIZE.search(name) is not None
