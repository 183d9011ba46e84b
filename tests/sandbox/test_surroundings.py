"""What code under test finds around it: limits, variables, streams, powers, and what it may do with files."""

from __future__ import annotations

import errno
import itertools
import platform
import sys
from pathlib import Path

import pytest

from tests.support.confirming import confirm_files, target_of
from theria.verdicts import Verdict
from theria_lint.confirm.confirm import Confirmation
from theria_lint.confirm.protocol import Job, TargetRequest
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.report.sentences import say
from theria_lint.sandbox import environment, seccomp
from theria_lint.worker import job as job_module
from theria_lint.worker.job import RunningJob

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the protections are Linux's")

# Each lists what it finds to be other than the page says.
KERNELS = """
import fcntl, os, resource, threading
import torch

PROJECT, OUTSIDE, SPACES = {project!r}, {outside!r}, {spaces!r}

class OtherwiseError(Exception):
    pass

def finish(q, k, v, wrong):
    if wrong:
        raise OtherwiseError(wrong)
    return torch.softmax(q @ k.transpose(-1, -2), -1) @ v

def refused(action, *arguments):
    try:
        action(*arguments)
    except OSError:
        return True
    return False

def attention_limits(q, k, v):
    limits = {{name: resource.getrlimit(getattr(resource, "RLIMIT_" + name))[1] for name in
              ("FSIZE", "NOFILE", "CORE", "CPU", "DATA")}}
    wanted = {{"FSIZE": 64 << 20, "NOFILE": 512, "CORE": 1}}
    wrong = [name for name, value in wanted.items() if not 0 <= limits[name] <= value]
    wrong += [name for name in ("CPU", "DATA") if limits[name] == resource.RLIM_INFINITY]
    return finish(q, k, v, wrong)

def attention_streams(q, k, v):
    wrong = [n for n in range(3) if os.readlink(f"/proc/self/fd/{{n}}") != "/dev/null"]
    if not refused(os.open, "/dev/tty", os.O_RDWR):
        wrong.append("a terminal")
    return finish(q, k, v, wrong)

def attention_variables(q, k, v):
    home = os.environ["HOME"]
    places = ("TMPDIR", "TRITON_CACHE_DIR", "TRITON_HOME", "TORCH_HOME", "TORCHINDUCTOR_CACHE_DIR", "XDG_CACHE_HOME")
    wrong = [name for name in places if not os.environ[name].startswith(home)]
    wrong += [name for name in ("OF_MY_OWN", "OMP_TOKEN", "TORCH_PASSWORD") if name in os.environ]
    if os.environ.get("OMP_OF_MINE") != "7":
        wrong.append("OMP_OF_MINE")
    return finish(q, k, v, wrong)

def attention_powers(q, k, v):
    status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    wrong = [name for name in ("CapEff", "CapPrm", "CapBnd") if int(status[name], 16) & ~4]
    if status["NoNewPrivs"].strip() != "1":
        wrong.append("NoNewPrivs")
    return finish(q, k, v, wrong)

def attention_spaces(q, k, v):
    return finish(q, k, v, [name for name, link in SPACES.items() if os.readlink(f"/proc/self/ns/{{name}}") == link])

def attention_changes(q, k, v):
    attempts = [
        (os.mkdir, PROJECT + "/made"), (os.rename, PROJECT + "/data.txt", PROJECT + "/moved.txt"),
        (os.symlink, "/", PROJECT + "/link"), (os.link, PROJECT + "/data.txt", PROJECT + "/hard"),
        (os.remove, PROJECT + "/data.txt"), (os.rmdir, PROJECT + "/empty"), (os.mkfifo, PROJECT + "/pipe"),
        (os.mkdir, OUTSIDE + "/made"), (os.open, OUTSIDE + "/made.txt", os.O_CREAT | os.O_WRONLY),
        (os.open, PROJECT + "/data.txt", os.O_WRONLY),
    ]
    return finish(q, k, v, [str(attempt) for attempt in attempts if not refused(*attempt)])

def attention_without_effect(q, k, v):
    path, before = PROJECT + "/data.txt", os.stat(PROJECT + "/data.txt")
    os.chmod(path, 0o777)
    os.chown(path, 1, 1)
    os.utime(path, (0, 0))
    os.setxattr(path, "user.mine", b"x")
    after, wrong = os.stat(path), []
    for name in ("st_mode", "st_uid", "st_gid", "st_mtime_ns"):
        wrong += [name] if getattr(after, name) != getattr(before, name) else []
    return finish(q, k, v, wrong + (["an attribute"] if "user.mine" in os.listxattr(path) else []))

def attention_threads(q, k, v):
    done = []
    threads = [threading.Thread(target=done.append, args=(n,)) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return finish(q, k, v, [] if len(done) == 50 else ["threads"])

def attention_memory(q, k, v):
    found = os.statvfs(os.environ["HOME"])
    wrong = [] if found.f_blocks * found.f_frsize <= 512 << 20 and 0 < found.f_files <= 8192 else [str(found)]
    return finish(q, k, v, wrong)

def attention_hard_link(q, k, v):
    return finish(q, k, v, [] if open(PROJECT + "/hard.txt").read() == "of somebody else" else ["not read"])

def attention_locks(q, k, v, held=[]):
    if not held:
        held.append(open(PROJECT + "/data.txt"))
        fcntl.flock(held[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
    return finish(q, k, v, [])

def attention_names(q, k, v):
    return finish(q, k, v, [] if ".hidden" in os.listdir(PROJECT) and refused(open, PROJECT + "/.hidden") else ["."])
"""

FILES = ("attention_changes", "attention_hard_link", "attention_names")
SPACES = ("attention_spaces",)
ALWAYS = ("attention_limits", "attention_streams", "attention_variables", "attention_threads", "attention_locks")
SYMBOLS = (*FILES, *SPACES, *ALWAYS, "attention_memory", "attention_powers", "attention_without_effect")
NEEDED = dict.fromkeys(FILES, "files") | dict.fromkeys(SPACES, "namespaces")
NEEDED |= {"attention_memory": "disk", "attention_powers": "privileges", "attention_without_effect": "calls"}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Confirmation:
    folder = tmp_path_factory.mktemp("surroundings")
    project, outside = folder / "project", folder / "outside"
    for path in (project / "empty", outside):
        path.mkdir(parents=True)
    for name, text in {"data.txt": "x", ".hidden": "x", "pyproject.toml": ""}.items():
        (project / name).write_text(text)
    (outside / "secret.txt").write_text("of somebody else")
    (project / "hard.txt").hardlink_to(outside / "secret.txt")
    spaces = {name: str(Path(f"/proc/self/ns/{name}").readlink()) for name in ("user", "pid", "net", "ipc", "mnt")}
    kernel = project / "kernels.py"
    kernel.write_text(KERNELS.format(project=str(project), outside=str(outside), spaces=spaces))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"OF_MY_OWN": "x", "OMP_TOKEN": "x", "TORCH_PASSWORD": "x", "OMP_OF_MINE": "7"}.items():
            patch.setenv(name, value)
        return confirm_files([kernel], device="cpu")


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_the_surroundings_are_as_the_page_says(found: Confirmation, symbol: str) -> None:
    refusal = found.protections.get(NEEDED.get(symbol, ""))
    if refusal is not None:
        pytest.skip(f"this machine does not give it: {say(refusal)}")
    target = target_of(found, symbol)
    assert target.verdict is Verdict.SAFE, say(target.reason)


def test_a_lock_ends_with_the_target_that_holds_it(found: Confirmation) -> None:
    import fcntl

    path = Path(target_of(found, "attention_locks").target.path).parent / "data.txt"
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


CALLS = (
    *("socket", "connect", "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp", "setpriority"),
    *("ioprio_set", "io_uring_setup", "io_uring_enter", "io_uring_register", "add_key", "request_key", "keyctl", "bpf"),
    *("perf_event_open", "userfaultfd", "shmget", "semget", "msgget", "mq_open", "open_by_handle_at", "tkill"),
)


@pytest.mark.skipif(platform.machine() not in seccomp._AUDIT, reason="no filter is known")
@pytest.mark.parametrize(("processes", "programs"), list(itertools.product(seccomp.ProcessPolicy, (False, True))))
def test_the_filter_refuses_what_the_page_lists(processes: seccomp.ProcessPolicy, programs: bool) -> None:
    from tests.sandbox.test_filters import answer

    code = seccomp.make_import_filter(processes, programs=programs)
    answers = {name: answer(code, name, 10) for name in CALLS}
    assert [name for name, said in answers.items() if said == seccomp._ALLOW] == []
    assert answer(code, "execve") == (seccomp._ALLOW if programs else seccomp._REFUSE | errno.EACCES)


def test_on_a_gpu_a_target_may_start_what_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    granted = {}
    for device in ("cpu", "cuda"):
        job = Job(1, "/kernel.py", (TargetRequest("one", "function"),), {}, (), device, 1.0, 1)
        running = RunningJob(job, 0, None, "", True, 0.0)  # type: ignore[arg-type]
        running._grant_forks()
        before = running.forks
        running.imported = True
        running._grant_forks()
        granted[device] = before, running.forks
    assert granted == {"cpu": (0, 1), "cuda": (0, 1 + 512)}
    assert job_module._MAX_COMPILER_PROCESSES == 512


def test_variables_that_speak_of_secrets_are_left_out_whatever_they_begin_with() -> None:
    kept = {"PATH": "", "LANG": "", "PYTHONPATH": "", "CUDA_HOME": "", "OMP_NUM_THREADS": "", "LC_ALL": ""}
    lost = dict.fromkeys(("CUDA_TOKEN", "PYTHON_SECRET", "OMP_PASSWORD", "TORCH_CREDENTIALS", "SSH_AUTH_SOCK", "X"), "")
    assert environment.select_harmless_variables({**kept, **lost}) == kept


def test_with_no_confirm_nothing_is_imported(lint, folder: Path) -> None:  # type: ignore[no-untyped-def]
    trace = folder.parent / "trace"
    source = f"open({str(trace)!r}, 'w').close()\nimport torch\n"
    (folder / "kernel.py").write_text(source + "def attention(q, k, v):\n    return (q @ k.mT).detach() @ v\n")
    result = lint("--no-confirm")
    assert "THL002" in result.stdout
    assert not trace.exists()
    assert [path.name for path in folder.iterdir()] == ["kernel.py"]


def test_verbose_prints_the_protections() -> None:
    from theria_lint.report import ReportView, render
    from theria_lint.result import Environment, LintReport

    report = LintReport(Environment(), 1, (), (), (), protections={"files": None, "disk": Reason(ReasonCode.NOT_TRIED)})
    assert "Protections that held: files.\n" in render(report, "text", ReportView(verbose=True))
    assert "Protections that this machine did not give: disk (they could not be tried).\n" in render(
        report, "text", ReportView()
    )


def test_times_are_those_of_the_page() -> None:
    from theria_lint.confirm.confirm import ConfirmSettings

    assert ConfirmSettings().memory == 4 << 30
    jobs = [Job(1, "/kernel.py", (), {}, (), device, 30.0, 1) for device in ("cpu", "cuda")]
    assert [job.probing_time for job in jobs] == [30.0, 120.0]
    assert jobs[0].import_time == 60.0


def test_on_a_gpu_more_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    from theria_lint.sandbox import landlock, readable_paths

    monkeypatch.setattr(readable_paths, "_list_gpu_nodes", lambda device: ["/dev/null"] if device != "cpu" else [])
    rules = {device: list(readable_paths.list_path_rules([], "/t", device=device)) for device in ("cpu", "cuda")}
    beyond = [rule for rule in rules["cuda"] if rule not in rules["cpu"]]
    assert any(path == "/proc" and rights & ~landlock.READ_RIGHTS for path, rights in beyond), beyond
    assert not any(path == "/proc" and rights & ~landlock.READ_RIGHTS for path, rights in rules["cpu"])
