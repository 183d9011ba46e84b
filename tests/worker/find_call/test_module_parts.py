"""What sources tell of constructors, forwards and outputs, without building anything."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from inspect import Parameter
from typing import Literal, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from theria.probes.layouts import ODD
from theria_lint.reasons import CodedError
from theria_lint.worker.find_call.call_strategy import BoundCall, TrialSpec, select_output
from theria_lint.worker.find_call.choose_arguments import find_annotation_values, find_layer_class
from theria_lint.worker.find_call.module_inputs import (
    build_needed_inputs,
    build_single_input,
    list_optional_tensors,
)
from theria_lint.worker.find_call.run_trial import InvalidTrialError, check_mixes_positions
from theria_lint.worker.find_call.signatures import (
    NoSuchChoiceError,
    find_structured_input,
    read_constructor_parameters,
    read_parameters,
)

SPEC = TrialSpec(ODD, "btd", torch.float64, "cpu", torch.nn.functional.scaled_dot_product_attention)
X = (ODD.batch, ODD.queries, SPEC.channels)


class Base(nn.Module):
    def __init__(self, dim, depth, heads=8, causal=False, **kwargs):
        super().__init__()
        self.width = kwargs.get("width", 4)


class Child(Base):
    def __init__(self, *, name="child", **kwargs):
        assert "causal" not in kwargs
        self.size = kwargs.pop("size")
        super().__init__(12, **kwargs)


class Named(Child):
    def __init__(self, **options):
        Child.__init__(self, name="named", **options)


class Holder(nn.Module):
    def __init__(self, **kwargs):
        super().__init__()
        self.inner = Base(kwargs["wide"], causal=True, **kwargs)


def test_what_a_parent_takes_by_keyword_is_taken() -> None:
    found = read_constructor_parameters(Child)
    assert [n for n, p in found.items() if p.default is p.empty and p.kind is not p.VAR_KEYWORD] == ["depth", "size"]
    assert {n: found[n].default for n in ("name", "heads", "width")} == {"name": "child", "heads": 8, "width": 4}
    assert not {"dim", "causal"} & found.keys()


def test_a_parent_may_be_named_and_a_part_be_built() -> None:
    assert read_constructor_parameters(Named).keys() == read_constructor_parameters(Child).keys() - {
        "name",
        "kwargs",
    } | {"options"}
    assert read_constructor_parameters(Holder).keys() == {"wide", "depth", "heads", "width", "kwargs"}


class Triple(NamedTuple):
    q: Tensor
    k: Tensor


@dataclass
class Batch:
    hidden: Tensor
    mask: Tensor | None = None


@dataclass
class Sizes:
    dim: int = 3


class OfRecords:
    def by_dataclass(self, x, batch: Batch): ...

    def by_tuple(self, inputs: Triple, scale: float): ...

    def by_keys(self, batch):
        return batch["x"] + batch["y"]

    def by_attributes(self, data, depth):
        return data.nodes + data.edge_index

    def of_settings(self, x, sizes: Sizes): ...

    def of_tensors(self, x, cache):
        return x.shape, cache.update(x)


@pytest.mark.parametrize(
    ("method", "parameter", "fields"),
    [
        ("by_dataclass", "batch", ["hidden", "mask"]),
        ("by_tuple", "inputs", ["q", "k"]),
        ("by_keys", "batch", ["x", "y"]),
        ("by_attributes", "data", ["nodes", "edge_index"]),
    ],
)
def test_forwards_that_take_a_record(method: str, parameter: str, fields: list[str]) -> None:
    function = getattr(OfRecords, method)
    record = find_structured_input(type("Module", (), {"forward": function}))
    assert record is not None
    assert (record.parameter, list(record.fields)) == (parameter, fields)
    rest = [name for name in list(read_parameters(function))[1:] if name != parameter]
    opened = record.expand_parameters(dict(list(read_parameters(function).items())[1:]))
    assert list(opened) == [*fields, *rest]
    closed = record.pack_arguments({**dict.fromkeys(fields, 1), **dict.fromkeys(rest, 2)})
    assert closed.keys() == {parameter, *rest}


@pytest.mark.parametrize("method", ["of_settings", "of_tensors"])
def test_forwards_that_take_none(method: str) -> None:
    assert find_structured_input(type("Module", (), {"forward": getattr(OfRecords, method)})) is None


def forward(x, z, coords, edge_index, mask, context=None, past_key_values=None, mems=None, bias=None): ...


def test_tensors_have_the_shapes_that_names_tell() -> None:
    parameters = read_parameters(forward)
    given = build_needed_inputs(parameters, SPEC, {})
    shapes = {name: tuple(tensor.shape) for name, tensor in given.tensors.items()}
    b, t, c = X
    assert shapes == {"x": X, "z": (b, t, t, c), "coords": (b, t, 3)}
    assert tuple(build_needed_inputs(parameters, SPEC, {"z": 1}).tensors["z"].shape) == X
    with pytest.raises(NoSuchChoiceError):
        build_needed_inputs(parameters, SPEC, {"z": 20})


def test_optional_tensors_are_given_where_they_are_chosen() -> None:
    parameters = read_parameters(forward)
    assert list_optional_tensors(parameters) == ["context", "bias"]
    assert "context" not in build_single_input(parameters, SPEC, {}).tensors
    assert tuple(build_single_input(parameters, SPEC, {"context": 1}).tensors["context"].shape) == (
        ODD.batch,
        ODD.keys,
        SPEC.channels,
    )


class Kind(Enum):
    NEAR = "near"


def test_annotations() -> None:
    def values(hint: object) -> list[object]:
        found = find_annotation_values(hint)
        assert found is not None
        return found("window_size", SPEC)

    assert values(Literal["near", "far"] | None) == ["near", "far"]
    assert values(Kind) == [Kind.NEAR]
    assert {len(value) for value in values(tuple[int, int, int])} == {3}  # type: ignore[arg-type]
    assert find_annotation_values(int) is None
    assert find_layer_class(Holder, "base", nn.Module) is Base
    assert find_layer_class(Holder, "anything", Child) is Child
    assert find_layer_class(Holder, "anything", int) is None


def test_the_output_is_none_of_what_was_given() -> None:
    x, other = torch.ones(2, 3), torch.zeros(4)
    assert select_output({"input": x, "out": other}, None, [x]) is other
    assert select_output(Batch(other, mask=x), (2, 3)) is x
    assert select_output((3, [other.long(), (other,)]), None) is other
    assert BoundCall(lambda x: (x, x * 2), {"x": x}).compute_output(x)[0, 0] == 2
    with pytest.raises(CodedError, match="no_output: list"):
        select_output([x], None, [x])


def test_what_stands_in_a_tuple_is_asked_whether_it_attends() -> None:
    x = torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InvalidTrialError):
        check_mixes_positions(lambda x: (x.tanh(), None), x, -1)
    assert check_mixes_positions(lambda x: (x.cumsum(1), None), x, -1)[1] is None


def test_parameters_are_keyword_only_where_they_stand_for_kwargs() -> None:
    assert read_constructor_parameters(Child)["depth"].kind is Parameter.KEYWORD_ONLY
