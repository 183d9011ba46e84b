"""Tables of the documentation name everything that there is, and nothing else."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.doc_pages import ROOT, Session
from theria_lint.config import FORMATS, KEYS, TARGET_KEYS, ResolvedSettings, Settings, format_settings


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading; "" is the top of the page."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    below = text.split(f"## {heading}\n", 1)[1] if heading else text
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert table, f"{page} has no table below {heading!r}"
    lines = table[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_key_of_the_configuration_stands_there_with_its_default() -> None:
    documented = {names(row[0])[0]: row[1].strip("`") for row in rows("configuration.md", "")}
    shown = format_settings(ResolvedSettings(Settings(), {}))
    defaults = dict(re.findall(r"^([\w-]+) = (.*)  # default$", shown, re.MULTILINE))
    assert list(documented) == list(KEYS)
    assert documented == {key: defaults.get(key, "not set") for key in KEYS}


def test_every_key_of_a_target_stands_there() -> None:
    documented = [name for row in rows("configuration.md", "Targets") for name in names(row[0])]
    assert sorted(documented) == sorted(TARGET_KEYS)


def test_every_report_format_stands_there() -> None:
    documented = [names(row[0])[0] for row in rows("ci.md", "Report formats")]
    assert sorted(documented) == sorted(FORMATS)


def test_the_workflows_install_and_run_the_linter() -> None:
    for name in (".github/workflows/lint.yml", ".gitlab-ci.yml"):
        text = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
        workflow = text.split(f'```yaml title="{name}"\n', 1)[1].split("```", 1)[0]
        assert "theria-lint" in str(yaml.safe_load(workflow))


COMPLETED = """
eval "$(_THERIA_LINT_COMPLETE=bash_source theria-lint)"
function=$(complete -p theria-lint | sed 's/.*-F \\([^ ]*\\).*/\\1/')
COMP_WORDS=({words}) COMP_CWORD={last}
$function theria-lint "${{COMP_WORDS[COMP_CWORD]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["--output-f"], {"--output-format", "--output-file"}),
        (["--output-format", "s"], {"sarif"}),
        (["--no-conf"], {"--no-confirm"}),
    ],
)
def test_bash_completes_options_and_their_values(words: list[str], offered: set[str], tmp_path: Path) -> None:
    session = Session(tmp_path)
    script = COMPLETED.format(words=" ".join(["theria-lint", *words]), last=len(words))
    done = subprocess.run(["bash", "-c", script], env=session.env, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert set(done.stdout.split()) == offered
