"""Where code has branches that the usual specs do not take, specs are looked for that do."""

from __future__ import annotations

import pytest

from tests.support.confirming import confirm_source, target_of
from theria_lint.confirm.confirm import Confirmation

BRANCHES = {
    "heads_attention": "q.shape[1] >= 8",
    "batch_attention": "q.shape[0] == 3",
    "query_attention": "q.shape[-2] == 1",
    "wide_attention": "q.shape[-1] % 32 == 0",
    "single_attention": "q.dtype == torch.float32",
    "half_attention": "q.dtype in (torch.float16, torch.bfloat16)",
    "value_attention": "float(q.detach().reshape(-1)[0]) > 1.0",
}
KERNEL = """

def {name}(q, k, v):
    if {condition}:
        return (q @ k.detach().transpose(-2, -1)).softmax(-1) @ v
    return (q @ k.transpose(-2, -1)).softmax(-1) @ v
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Confirmation:
    source = "import torch\n" + "".join(KERNEL.format(name=name, condition=c) for name, c in BRANCHES.items())
    return confirm_source(tmp_path_factory.mktemp("branches"), source, device="cpu")


@pytest.mark.parametrize("name", BRANCHES)
def test_a_branch_is_reached_that_asks_about_sizes_precisions_and_numbers(found: Confirmation, name: str) -> None:
    assert target_of(found, name).verdict == "hard_structural", target_of(found, name).reason
    told = [f.disposition for f in found.findings if f.suspect.symbol == name]
    assert "confirmed" in told
