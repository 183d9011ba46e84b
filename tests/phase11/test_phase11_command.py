"""The command: CSV, progress, resume, figures and messages."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import plots
import pytest
import run_bad_backend_diagnostics as command
from diagnostics import COLUMNS, format_blocks, parse_blocks

from theria.probes import Block

ROOT = Path(__file__).parents[2]
SCRIPT = "experiments/phase11/scripts/run_bad_backend_diagnostics.py"
QUICK = ["--steps", "1", "--inner-steps", "1", "--attention-backend", "reference"]


@pytest.fixture
def table(tmp_path):
    return tmp_path / "runs" / "table.csv"


def run(table, *arguments):
    return command.main([*QUICK, "--csv-out", str(table), *arguments])


def rows(table):
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_command_of_the_readme_runs_in_a_process_of_its_own(table):
    """From the root of a checkout, with nothing but the packages importable."""
    finished = subprocess.run(
        [sys.executable, SCRIPT, *QUICK[:-1], "custom", "--backend", "baseline", "--device", "cpu", "--csv-out", table],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.startswith("[1/1] baseline on custom, 1 inner steps, seed 0: OK, safe (")
    assert finished.stdout.splitlines()[-1] == f"{table}: 1 rows"


def test_without_arguments_every_wrapper_runs_on_every_backend():
    jobs = command.list_jobs(command.parse([]))
    assert len(jobs) == len(set(jobs)) == 3 * len(command.WRAPPERS)
    assert {backend for _, backend, _ in jobs} == {"reference", "custom", "triton_fused"}
    assert command.parse([]).csv_out.resolve() == ROOT / "experiments/phase11/runs/bad_backend_diagnostics.csv"


def test_the_header_is_the_agreed_one(table):
    assert run(table, "--backend", "no_grad_attention") == 0
    assert (
        table.read_text()
        .splitlines()[0]
        .startswith(
            "wrapper,attention_backend,status,second_order_path_all,second_order_path_any,second_order_path_attn_all,"
            "second_order_path_attn_any,second_order_path_head_all,second_order_path_head_any,attn_second_order_ok,"
            "rel_diff_mean,error,verdict,meta_gradient_error,blocks,"
        )
    )
    assert list(rows(table)[0]) == list(COLUMNS)


def test_depths_and_seeds_are_rows_of_their_own_in_order(table, capsys):
    assert run(table, "--backend", "baseline", "--inner-steps-list", "2,1", "--seeds", "1,0") == 0
    assert [(row["inner_steps"], row["seed"]) for row in rows(table)] == [
        ("1", "0"),
        ("1", "1"),
        ("2", "0"),
        ("2", "1"),
    ]
    assert capsys.readouterr().err.count("baseline on reference") == 4


def test_an_interrupted_sweep_resumes_where_it_stopped(table, monkeypatch, capsys):
    diagnose, done = command.diagnose, []

    def interrupted(wrapper, backend, settings):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(wrapper)
        return diagnose(wrapper, backend, settings)

    monkeypatch.setattr(command, "diagnose", interrupted)
    assert run(table) == 130
    assert "the same command resumes" in capsys.readouterr().err
    kept = rows(table)
    assert [row["wrapper"] for row in kept] == done

    again = []
    monkeypatch.setattr(command, "diagnose", lambda *job: again.append(job[0]) or diagnose(*job))
    assert run(table) == 0
    assert f"2 of {len(command.WRAPPERS)} rows are kept" in capsys.readouterr().err
    assert [*done, *again] == list(command.WRAPPERS)
    assert rows(table)[:2] == kept


def test_a_finished_sweep_runs_again_only_if_told(table, monkeypatch):
    assert run(table, "--backend", "baseline") == 0
    jobs = []
    diagnose = command.diagnose
    monkeypatch.setattr(command, "diagnose", lambda *job: jobs.append(job) or diagnose(*job))
    assert run(table, "--backend", "baseline") == 0
    assert jobs == []
    assert run(table, "--backend", "baseline", "--fresh") == 0
    assert len(jobs) == 1


def test_rows_of_other_settings_are_not_mixed_in(table, capsys):
    assert run(table, "--backend", "baseline") == 0
    before = table.read_text()
    capsys.readouterr()
    assert run(table, "--steps", "2", "--inner-lr", "0.1") == 2
    assert capsys.readouterr().err == (
        f"error: {table} holds rows measured with steps=1 (now 2), inner_lr=0.4 (now 0.1): "
        "give --fresh to replace them, or another --csv-out to keep them\n"
    )
    assert table.read_text() == before


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "half"])
def test_a_file_that_is_no_table_is_not_overwritten(table, capsys, content):
    table.parent.mkdir()
    table.write_text(content)
    assert run(table) == 2
    assert "is not a table of this version: give --fresh to replace it" in capsys.readouterr().err
    assert table.read_text() == content


def test_a_row_that_was_cut_off_is_noticed(table, capsys):
    assert run(table, "--backend", "baseline") == 0
    table.write_text(table.read_text()[:-20])
    assert run(table) == 2
    assert "is not a table of this version" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_said_before_anything_runs(table, capsys):
    assert run(table, "--device", "cuda:99", "--attention-backend", "custom") == 2
    message = capsys.readouterr().err
    assert message.startswith("error: custom does not run on cuda:99 in float32 (")
    assert message.endswith("choose another --device, --dtype or --attention-backend\n")
    assert not table.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", "nonsense"], "invalid choice: 'nonsense'"),
        (["--inner-steps-list", "1,x"], "'1,x' is not a list of integers such as 1,5,10"),
        (["--inner-steps-list", "0,1"], "0 is below 1"),
        (["--steps", "0"], "0 is below 1"),
        (["--seeds=-1"], "-1 is below 0"),
    ],
)
def test_bad_arguments_are_refused(table, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        run(table, *arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_figures_are_drawn_from_the_table(table, capsys):
    pytest.importorskip("matplotlib")
    for wrapper in ("baseline", "no_grad_attention", "detach_q_input"):
        assert run(table, "--backend", wrapper, "--inner-steps-list", "1,2", "--plot") == 0
    for name in ("rel_diff_vs_inner_steps.png", "block_errors.png"):
        image = table.parent / name
        assert image.read_bytes().startswith(b"\x89PNG")
        assert image.stat().st_size > 10_000
        assert str(image) in capsys.readouterr().out or name.startswith("block")


def test_one_depth_is_a_row_of_dots():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axis = figure.subplots()
    plots._draw_dots(axis, {"baseline": [(5, 0.3)], "detach_q_input": [(5, 0.1)]})
    (dots,) = axis.lines
    assert dict(zip(dots.get_ydata(orig=True), dots.get_xdata(), strict=True)) == {
        "detach_q_input": 0.1,
        "baseline": 0.3,
    }
    assert axis.get_xlim()[0] == 0


def test_what_is_bad_is_red_and_the_deeper_the_worse():
    pytest.importorskip("matplotlib")
    right, near, far, missing = (
        plots._choose_colour(cell) for cell in (("right", 1e-9), ("wrong", 1e-3), ("wrong", 0.9), ("missing", 1.0))
    )
    for red, green, blue in (near, far, missing):
        assert red > max(green, blue)
    assert right[1] > right[0]
    assert near[1] > far[1] > missing[1]
    assert {label.split()[1].rstrip(",") for _, label in plots.LEGEND} == {"right", "wrong", "missing"}


def test_the_help_says_what_backend_names_and_how_to_use_it(capsys):
    with pytest.raises(SystemExit):
        command.parse(["--help"])
    told = capsys.readouterr().out
    assert told.splitlines()[0].endswith(
        "[--backend WRAPPER] [--attention-backend BACKEND] [--steps N] [--inner-steps N] [options]"
    )
    assert "the wrapper to run, by the name that the published" in told
    assert "\n  checkpoint_reentrant\n" in told


def test_a_table_of_hard_failures_alone_can_be_drawn(table):
    pytest.importorskip("matplotlib")
    assert run(table, "--backend", "no_grad_attention", "--plot") == 0


def test_without_matplotlib_plot_is_refused_before_anything_runs(table, monkeypatch, capsys):
    monkeypatch.setattr(command, "can_plot", lambda: False)
    assert run(table, "--plot") == 2
    assert capsys.readouterr().err == (
        "error: --plot needs matplotlib, which is not installed here: run `pip install matplotlib`\n"
    )
    assert not table.exists()


def test_matplotlib_is_imported_for_plots_alone():
    probe = "import sys, run_bad_backend_diagnostics; sys.exit('matplotlib' in sys.modules)"
    path = f"{ROOT / 'experiments/phase11/scripts'}{os.pathsep}{ROOT}"
    environment = {**os.environ, "PYTHONPATH": path}
    assert subprocess.run([sys.executable, "-c", probe], env=environment, check=False).returncode == 0


def test_curves_average_over_seeds():
    found = [
        {"wrapper": "baseline", "attention_backend": "custom", "inner_steps": depth, "rel_diff_mean": value}
        for depth, value in (("5", "0.2"), ("1", "0.1"), ("5", "0.4"), ("10", ""))
    ]
    curves = plots._curves(found, "custom")
    assert list(curves) == ["baseline"]
    assert curves["baseline"] == [(1, 0.1), (5, pytest.approx(0.3))]


def test_blocks_survive_the_table():
    blocks = {"q,k": Block(1.0, 1.0, 2.5e-16, "right"), "v,out": Block(None, 3.0, 1.0, "missing")}
    text = format_blocks(blocks)
    assert text == "q.k=right:2.5e-16; v.W=missing:1.0e+00"
    assert parse_blocks(text) == {"q.k": ("right", 2.5e-16), "v.W": ("missing", 1.0)}
    assert parse_blocks("") == {}


def test_workers_of_a_cluster_measure_the_same_rows(table, tmp_path):
    """In a process of its own, as the scripts are run: its workers can import none of them."""
    distributed = pytest.importorskip("distributed")
    here = tmp_path / "here.csv"
    command_line = [sys.executable, SCRIPT, *QUICK, "--csv-out"]
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        address = cluster.scheduler_address.replace("tcp://", "dask://")
        subprocess.run([*command_line, table, "--executor", address], cwd=ROOT, check=True, capture_output=True)
    subprocess.run([*command_line, here], cwd=ROOT, check=True, capture_output=True)
    kept = [{name: value for name, value in row.items() if name != "seconds"} for row in rows(table)]
    assert sorted(kept, key=str) == sorted(
        ({name: value for name, value in row.items() if name != "seconds"} for row in rows(here)), key=str
    )
    assert len(kept) == len(command.WRAPPERS)


def test_a_scheduler_that_is_not_there_is_one_sentence(table, capsys):
    pytest.importorskip("distributed")
    assert run(table, "--executor", "dask://127.0.0.1:1") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "127.0.0.1:1" in line
