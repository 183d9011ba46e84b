"""Of code that calls a target, the statements that lead to the call are found, and what they need."""

from __future__ import annotations

from theria_lint.static.example_calls import find_calls_in_code, find_calls_in_page

PAGE = """
# Usage

```python
import torch
from shop import Attention, Config

config = Config(dim=64)
config.heads = 8
unused = torch.randn(3)
print(unused)
attention = Attention(config)
with torch.no_grad():
    y = attention(torch.randn(1, 10, 64))
```

```
pip install Attention
```
"""


def test_a_page_gives_the_slice() -> None:
    (found,) = find_calls_in_page(PAGE, {"Attention"})
    assert found.line == PAGE[: PAGE.index("import torch")].count("\n") + 1
    assert found.code.splitlines() == [
        "import torch",
        "from shop import Attention, Config",
        "config = Config(dim=64)",
        "config.heads = 8",
        "attention = Attention(config)",
        "y = attention(torch.randn(1, 10, 64))",
    ]


DOCTEST = """
class Attention:
    '''It attends.

    >>> attention = Attention(4)
    >>> attention(
    ...     torch.randn(1, 2, 4))
    '''
"""


def test_a_doctest_gives_its_code() -> None:
    (found,) = find_calls_in_code(DOCTEST, {"Attention"}, docstrings={"Attention"})
    assert found.code.splitlines() == ["attention = Attention(4)", "attention(torch.randn(1, 2, 4))"]
    assert found.line == 5


TESTS = """
import pytest, torch
SIZE = 4
OTHER = 5

def make(n):
    return torch.randn(1, n, SIZE)

class TestIt:
    @pytest.mark.parametrize("causal", (True, False))
    @pytest.mark.parametrize("n, dtype", [(1, "x")])
    def test_it(self, causal, n, dtype, more=3):
        attention = Attention(SIZE, causal=causal)
        assert attention(make(n)) is not None

def test_with_a_fixture(thing):
    Attention(thing)(thing)

def test_something_else():
    make(3)
"""


def test_a_test_is_given_the_first_of_its_parameters() -> None:
    (found,) = find_calls_in_code(TESTS, {"Attention"})
    assert found.code.splitlines() == [
        "import pytest, torch",
        "SIZE = 4",
        "def make(n):",
        "    return torch.randn(1, n, SIZE)",
        "causal = True",
        "n = 1",
        "attention = Attention(SIZE, causal=causal)",
        "assert attention(make(n)) is not None",
    ]


MAIN = """
def attention(q):
    return q
if __name__ == "__main__":
    q = 3
    print(attention(q))
"""


def test_a_main_block_is_read_in_the_own_file() -> None:
    (found,) = find_calls_in_code(MAIN, {"attention"}, docstrings={"attention"})
    assert found.code.splitlines() == ["q = 3", "print(attention(q))"]


def test_what_is_no_python_holds_no_calls() -> None:
    assert list(find_calls_in_code("def (", {"Attention"})) == []
    assert list(find_calls_in_page("```\nAttention(\n```", {"Attention"})) == []
