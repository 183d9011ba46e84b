"""Several suspects in one target: each has the disposition that is right, by a truth found without the linter."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import suspect_kernels as kernels
from tests.support.confirming import confirm_files
from theria_lint.report.sentences import say

MARKED = {name: kernels.files_of(kernel, name) for name, kernel in kernels.KERNELS.items()}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernels")
    for files in MARKED.values():
        for path, marked in files.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(kernels.rendered(marked))
    confirmation = confirm_files(sorted(folder.rglob("*.py")))
    return {
        name: {path: [f for f in confirmation.findings if Path(f.suspect.path) == folder / path] for path in files}
        for name, files in MARKED.items()
    }


@pytest.mark.parametrize("name", MARKED)
def test_every_disposition_is_what_is_stated(found, name):
    for path, marked in MARKED[name].items():
        seen = [(f.suspect.span.line, str(f.disposition)) for f in found[name][path]]
        assert seen == kernels.stated(marked), [say(f.reason) for f in found[name][path]]


@pytest.mark.parametrize("name", MARKED)
def test_what_is_stated_is_true(name):
    """Of the confirmed, to leave all out mends the kernel, and each does harm; the cleared do none in their company."""
    marked = list(MARKED[name].values())
    states = [state for text in marked for _, state in kernels.stated(text)]
    confirmed, cleared, unknown = (
        frozenset(i for i, state in enumerate(states) if state == kind)
        for kind in ("confirmed", "cleared", "unconfirmed")
    )
    safe = kernels.truth_of(marked)
    everything = confirmed | cleared | unknown
    assert safe[everything] is False
    if not confirmed:
        assert safe[everything - unknown] is None
        return
    assert safe[cleared | unknown] is True
    for one in confirmed:
        assert any(safe[left] is True and safe[left | {one}] is False for left in safe if one not in left)


@pytest.mark.parametrize("name", [name for name in MARKED if name != "nothing_runs_without_it"])
def test_the_rewrite_leaves_out_the_confirmed_and_nothing_else(found, name):
    confirmed = [f for path in MARKED[name] for f in found[name][path] if f.disposition == "confirmed"]
    (rewrite,) = {f.rewrite for f in confirmed}
    texts = {Path(path).name: text for path, text in rewrite.files}
    whole = [texts.get(Path(path).name, kernels.rendered(marked)) for path, marked in MARKED[name].items()]
    wanted = [kernels.rendered(marked, _numbers(marked, "confirmed")) for marked in MARKED[name].values()]
    assert kernels.is_safe(whole) is True
    for token in (".detach()", ".data", ".item()", "torch.no_grad()", "@once_differentiable"):
        assert [text.count(token) for text in whole] == [text.count(token) for text in wanted], token


def _numbers(marked, disposition):
    return [number for number, (_, state) in enumerate(kernels.stated(marked)) if state == disposition]


def test_the_evidence_names_blocks_and_numbers(found):
    (_, norm) = found["harmless_row_max"]["harmless_row_max.py"]
    assert norm.reason.data["changes"][0]["block"] == "∂g_q/∂q"
    first, second = found["only_if_both_are_cut"]["only_if_both_are_cut.py"][:2]
    assert f"together with THL002 on line {second.suspect.span.line} it makes attention" in say(first.reason)
