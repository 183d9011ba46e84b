"""Rule files are validated: each error names the file, the key and the valid choices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from theria_lint.errors import RuleError
from theria_lint.rules.loader import load_rules
from theria_lint.static.scan import scan_source

VALID = """
id = "MYP001"
name = "my-rule"
severity = "warning"
detector = "names"
message = "`{token}` in `{symbol}`"
what-it-does = "Finds it."
why = "It is bad."
remedy = "Drop it."
references = []

[[match]]
kind = "function"
names = ["mypkg.freeze"]
neutraliser = "first-argument"
"""


def load(folder: Path, text: str) -> None:
    (folder / "rule.toml").write_text(text, encoding="utf-8")
    load_rules([folder])


def test_a_new_rule_with_an_existing_detector_needs_only_its_file(tmp_path: Path) -> None:
    (tmp_path / "MYP001-my-rule").mkdir()
    (tmp_path / "MYP001-my-rule" / "rule.toml").write_text(VALID, encoding="utf-8")
    rules = load_rules([tmp_path])
    source = "import torch, mypkg\ndef attention(q, k, v):\n    return mypkg.freeze(q)\n"
    (suspect,) = scan_source("file.py", source, rules)
    assert (suspect.rule, suspect.name, suspect.severity) == ("MYP001", "my-rule", "warning")
    assert suspect.message == "`mypkg.freeze()` in `attention`"
    assert scan_source("file.py", source, load_rules()) == ()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('severity = "warning"', 'severity = "bad"', "key 'severity': 'bad' is not valid; choose one of error"),
        ('detector = "names"', 'detector = "nmaes"', "key 'detector': 'nmaes' is not valid; choose one of names"),
        ('kind = "function"', 'kind = "fun"', "key 'kind': 'fun' is not valid; choose one of context, decorator"),
        ('neutraliser = "first-argument"', 'neutraliser = "x"', "key 'neutraliser': 'x' is not valid; choose one"),
        ('id = "MYP001"', 'id = "my1"', "key 'id': 'my1' is not valid; it must be"),
        ('id = "MYP001"', 'id = "THL001"', "key 'id': THL001 is taken by"),
        ('name = "my-rule"', 'name = "My Rule"', "key 'name': 'My Rule' is not valid; it must be"),
        ('why = "It is bad."', "", "key 'why': missing"),
        ('why = "It is bad."', 'why = ""', "key 'why': must be a text that is not empty"),
        ("references = []", "references = [1]", "key 'references': must be a list of texts"),
        ("references = []", 'references = []\nwhen = "x"', "key 'when': unknown; valid keys are detector, harmless, id, match"),
        ('names = ["mypkg.freeze"]', 'nmaes = ["x"]', "key 'match[0].nmaes': unknown; valid keys are kind, message"),
        ("references = []", 'references = []\nyields-to = ["THL999"]', "key 'yields-to': no rule THL999"),
        ('"`{token}` in `{symbol}`"', '"`{token}` in {place}"', "key 'message': {place} is not known"),
        ("[[match]]", "[match]", "key 'match': must be an array of tables, written [[match]]"),
        ("id =", "id", "not valid TOML"),
    ],
)  # fmt: skip
def test_a_wrong_rule_file_says_what_is_wrong_where(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert old in VALID
    with pytest.raises(RuleError) as caught:
        load(tmp_path, VALID.replace(old, new))
    assert str(caught.value).startswith(f"{tmp_path / 'rule.toml'}: {problem}")


def test_a_rule_path_without_rules_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="no rule here; a rule path is a folder"):
        load_rules([tmp_path / "missing"])


def test_the_rules_are_numbered_in_turn() -> None:
    found = [rule.id for rule in load_rules().rules]
    assert len(found) >= 12
    assert found == [f"THL{number:03d}" for number, _ in enumerate(found, start=1)]


@pytest.mark.parametrize("use", ["pass", "load_rules()", "scan_source('f.py', 'import torch\\n', load_rules())"])
def test_importing_and_scanning_load_nothing_heavy(use: str) -> None:
    imports = "from theria_lint.rules.loader import load_rules; from theria_lint.static.scan import scan_source"
    code = f"import sys; {imports}; {use}; print([m for m in ('libcst', 'torch') if m in sys.modules])"
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert result.stdout == "[]\n"


@pytest.mark.parametrize("single", [True, False])
def test_a_rule_that_is_a_link_out_of_its_rule_path_is_refused(tmp_path: Path, single: bool) -> None:
    secret = tmp_path / "secret.toml"
    secret.write_text("password = 1\n")
    folder = tmp_path / "rules" if single else tmp_path / "rules" / "one"
    folder.mkdir(parents=True)
    (folder / "rule.toml").symlink_to(secret)
    with pytest.raises(RuleError, match="a link leads out of") as refused:
        load_rules([tmp_path / "rules"])
    assert "password" not in str(refused.value)
