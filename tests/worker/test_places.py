"""Which expressions of a file a piece of code executes."""

from __future__ import annotations

import sys
import threading

import pytest

from theria_lint.worker.trace import SpanRecorder

SOURCE = """
def scale(x, flag):
    y = x + 1 if flag else x - 1
    return [a * y for a in range(3)]

def call(x):
    return scale(x, False)
"""


@pytest.fixture
def watched(tmp_path):
    path = str(tmp_path / "kernel.py")
    names: dict[str, object] = {}
    exec(compile(SOURCE, path, "exec"), names)
    return path, names["call"]


def test_the_branch_that_ran_is_told_from_the_one_that_did_not(watched):
    path, function = watched
    with SpanRecorder([path]) as places:
        function(3)
    executed = places.list_spans()[path]
    assert (3, 27, 3, 32) in executed
    assert (3, 8, 3, 13) not in executed


def test_each_recording_stands_alone(watched):
    path, function = watched
    seen = []
    for _ in range(2):
        with SpanRecorder([path]) as places:
            function(3)
        seen.append(places.list_spans())
    function(3)
    assert seen[0] == seen[1]
    assert seen[0][path]


def test_files_that_are_not_watched_are_not_recorded(watched):
    _, function = watched
    with SpanRecorder(["/elsewhere.py"]) as places:
        function(3)
    assert places.list_spans() == {}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="one thread only is recorded before Python 3.12")
def test_other_threads_are_recorded(watched):
    path, function = watched
    with SpanRecorder([path]) as places:
        thread = threading.Thread(target=function, args=(3,))
        thread.start()
        thread.join()
    assert places.list_spans()[path]
