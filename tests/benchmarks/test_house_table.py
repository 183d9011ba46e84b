"""The table of the house counts what it says."""

from __future__ import annotations

from pathlib import Path

from benchmarks.house_table import MeasuredPackage, find_longest_chain

TOP = '''"""A module."""

from house.below import lift_lid


def _open_door(): return lift_lid()


def show():
    # Twice.
    _open_door()
    return _open_door()
'''
BELOW = "def lift_lid():\n    return _turn()\n\n\ndef _turn():\n    from house import end\n    return end\n"


def test_a_small_package_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "house"
    folder.mkdir()
    for name, text in {"__init__": "", "top": TOP, "below": BELOW, "end": ""}.items():
        (folder / f"{name}.py").write_text(text)
    package = MeasuredPackage(folder)
    assert (len(package.texts), package.count_lines()) == (4, 19)
    assert package.list_lengths() == [1, 2, 3, 4]
    assert package.measure_called_once() == 50
    assert package.measure_single_words() == 50
    assert round(package.measure_comments(), 1) == 5.3
    assert package.measure_tokens_a_line() == 4
    assert find_longest_chain([package]) == 3
