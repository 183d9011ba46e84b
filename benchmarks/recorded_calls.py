"""Records how the tests of published packages call their attention, and prints a table.

    python benchmarks/recorded_calls.py FOLDER [PACKAGE ...]

makes a virtual environment in FOLDER and unpacks the source distributions there; runs each package's own tests on the
CPU (where its distribution has none, a script), by turns without and with ``theria-lint record``; then lints the files
whose callables were called, with ``--calls recorded`` and ``--calls guessed``. What is done is kept in FOLDER and not
done again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

BASE = ("torch==2.13.0", "triton==3.9.0", "torchvision==0.15.2", "numpy", "einops", "pytest", "safetensors")
ROOT = Path(__file__).absolute().parents[1]


class Package(NamedTuple):
    """What of a source distribution is linted (paths, spaces between), the command that calls it, and its needs.

    Where the distribution has no tests, ``repository`` has them, at the commit or tag that stands for the version; then
    what is needed is installed, and not the package itself.
    """

    place: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    variables: Mapping[str, str] = {}
    script: str = ""
    repository: str = ""


def _test(*arguments: str) -> tuple[str, ...]:
    return ("-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)


SCRIPT = ("calls.py",)

_TRANSFORMERS = """
import torch
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

small = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37, vocab_size=99)
for eager in ("eager", "sdpa"):
    bert = BertModel(BertConfig(**small, attn_implementation=eager))
    bert(torch.randint(99, (2, 7)), attention_mask=torch.tensor([[1] * 7, [1] * 5 + [0] * 2]))
    llama = LlamaForCausalLM(LlamaConfig(**small, num_key_value_heads=2, attn_implementation=eager))
    llama(torch.randint(99, (2, 7))).logits.sum().backward()
    llama.generate(torch.randint(99, (1, 3)), max_new_tokens=3, do_sample=False)
"""

_DIFFUSERS = """
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0, SlicedAttnProcessor
from diffusers.models.transformers.transformer_2d import Transformer2DModel

x, context = torch.randn(2, 6, 16), torch.randn(2, 5, 12)
for processor in (AttnProcessor(), AttnProcessor2_0(), SlicedAttnProcessor(slice_size=1)):
    attention = Attention(query_dim=16, cross_attention_dim=12, heads=2, dim_head=8, processor=processor)
    attention(x, encoder_hidden_states=context)
    attention(x, encoder_hidden_states=context, attention_mask=torch.zeros(4, 1, 5))
BasicTransformerBlock(16, 2, 8, cross_attention_dim=12)(x, encoder_hidden_states=context)
model = Transformer2DModel(2, 8, in_channels=16, norm_num_groups=4, cross_attention_dim=12)
model(torch.randn(1, 16, 4, 4), encoder_hidden_states=torch.randn(1, 5, 12))
"""

_TRITON = """
import torch
from flash_attention_triton import flash_attention_v2

q, k, v = (torch.randn(1, 2, 32, 32, dtype=torch.float32) for _ in range(3))
flash_attention_v2(q, k, v, 0.2)
"""

PACKAGES = {
    "local-attention==1.11.2": Package("local_attention", _test("tests", "-k", "128")),
    "native-sparse-attention-pytorch==0.2.3": Package(
        "native_sparse_attention_pytorch",
        _test("tests", "-k", "not sparse_attn or (sparse_attn and 63-0 and False-False)"),
    ),
    "vit-pytorch==1.26.11": Package("vit_pytorch", _test("tests/test_vit.py", "tests/test_vit_nd.py")),
    "equiformer-pytorch==0.5.4": Package(
        "equiformer_pytorch", _test("tests/test_edges.py", "-k", "True-True or False-False")
    ),
    "openlanguagemodel==2.2.1": Package("src/olm", _test("tests/test_attention.py", "tests/test_model_smoke.py")),
    "disentangled-flash==1.1.1": Package("src/disentangled_flash", _test("tests")),
    "diffusers==0.42.1": Package("src/diffusers/models", SCRIPT, script=_DIFFUSERS),
    "timm==1.0.31": Package("timm", _test("tests/test_models.py", "-k", "test_model_forward and vit_tiny")),
    "flash-attention-triton==0.1.1": Package(
        "src/flash_attention_triton", SCRIPT, variables={"TRITON_INTERPRET": "1"}, script=_TRITON
    ),
    "attention-smithy==1.3.0": Package("src/attention_smithy", _test("src/attention_smithy/components")),
    "attn-gym==0.0.17": Package(
        "attn_gym",
        _test("-o", "addopts=", "test/test_gather_attn_reference.py", "test/test_kda.py", "test/test_mods.py"),
    ),
    "curated-transformers==2.0.1": Package(
        "curated_transformers", _test("curated_transformers/tests/layers", "curated_transformers/tests/models/bert")
    ),
    "litgpt==0.5.13": Package(
        "litgpt",
        _test(
            *("-c", "/dev/null", "--rootdir", ".", "-W", "ignore"),
            *("tests/test_multihead_latent_attention.py", "tests/test_model.py"),
            *("-k", "latent or kv_cache or gpt_neox_model or gemma_2 or sliding or input_pos"),
        ),
        ("transformers==5.24.0", "pytest-rerunfailures", "lightning"),
    ),
    "monai==1.5.0": Package(
        "monai",
        _test(
            *(f"tests/networks/{name}.py" for name in ("blocks/test_spatialattention", "blocks/test_transformerblock")),
            *(f"tests/networks/{name}.py" for name in ("blocks/test_selfattention", "blocks/test_crossattention")),
            *("-k", "_000 or _001 or _00_ or _01_ or _0_ or access or causal or flash"),
        ),
        ("parameterized",),
        repository="https://github.com/Project-MONAI/MONAI",
    ),
    "torch-geometric==2.8.0": Package(
        "torch_geometric/nn",
        _test(
            *(
                f"test/nn/conv/test_{name}_conv.py"
                for name in ("agnn", "gat", "gatv2", "gps", "supergat", "transformer")
            ),
            *("test/nn/attention", "test/nn/aggr/test_attention.py", "test/nn/aggr/test_set_transformer.py"),
        ),
        ("torch-geometric==2.8.0",),
        repository="https://github.com/pyg-team/pytorch_geometric",
    ),
    "x-transformers==9252ed7838021ee61e6c5be0930b3a9a88efdf06": Package(
        "x_transformers",
        _test(
            *("tests/test_x_transformers.py", "-k"),
            "kv_cache or cope or softclamp_logits or l2_distance or forgetting or custom_alibi or multi_latent or"
            " attn_pooler or cross_attn_rotary or inverted_cross or belief_attn",
        ),
        ("x-transformers==2.31.10",),
        repository="https://github.com/lucidrains/x-transformers",
    ),
    "transformers==5.24.0": Package(
        "src/transformers/models/bert src/transformers/models/llama", SCRIPT, script=_TRANSFORMERS
    ),
}

TIMES = 3
"""How often the command is run without and with the recording."""

WAYS = ("recorded", "guessed")
VERDICTS = ("safe", "silent_collapse", "silent_corruption", "first_order_only", "hard_structural")


def prepare(folder: Path) -> Path:
    """The interpreter of an environment with what every package needs."""
    python = folder / "env" / "bin" / "python"
    if not python.exists():
        venv.create(folder / "env", with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *BASE], check=True)
    return python


def unpack(python: Path, folder: Path, requirement: str) -> Path:
    """The folder of a package's source distribution, whose dependencies are installed."""
    name, _, version = requirement.partition("==")
    place = folder / "src" / f"{name.replace('-', '_')}-{version}"
    package = PACKAGES[requirement]
    pip = [python, "-m", "pip"]
    if not place.exists() and package.repository:
        subprocess.run([*pip, "install", "-q", *package.needs, *BASE[:2]], check=True)
        git = ["git", "-C", place]
        subprocess.run(["git", "init", "-q", place], check=True)
        subprocess.run([*git, "fetch", "-q", "--depth", "1", package.repository, version], check=True)
        subprocess.run([*git, "checkout", "-q", "FETCH_HEAD", "--", *package.place.split(), "*test*"], check=True)
    elif not place.exists():
        subprocess.run([*pip, "install", "-q", requirement, *package.needs, *BASE[:2]], check=True)
        sdists = folder / "sdists"
        subprocess.run(
            [*pip, "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", sdists, requirement], check=True
        )
        with tarfile.open(sdists / f"{place.name}.tar.gz") as archive:
            archive.extractall(folder / "src", filter="data")
    (place / "theria-lint.toml").write_text("")
    if package.script:
        (place / "calls.py").write_text(package.script)
    return place


def run(command: Iterable[str | Path], place: Path, variables: Mapping[str, str]) -> tuple[int, str, float]:
    """The exit code of a command in a folder, what it printed, and the seconds of processor time that it took."""
    path = os.pathsep.join([str(place / "src"), str(place), str(ROOT)])
    around = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", **variables}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(list(map(str, command)), cwd=place, env=around, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.returncode, done.stdout + done.stderr, spent


def list_called(calls: Path) -> dict[str, list[str]]:
    """The symbols of the targets that calls are kept of, by the path of their file."""
    called: dict[str, list[str]] = {}
    for file in sorted(calls.rglob("1.json")):
        document = json.loads(file.read_text(encoding="utf-8"))
        called.setdefault(document["path"], []).append(document["symbol"])
    return called


def lint(python: Path, place: Path, files: Iterable[str], calls: str) -> dict[str, dict[str, Any]]:
    """What is said of each target of some files, by path and symbol."""
    linter = [sys.executable, "-m", "theria_lint", "--python", str(python), "--timeout", "100", "--calls", calls]
    linter += ["--ignore", "THL"]  # only the targets are of interest
    done = subprocess.run(
        [*linter, "--output-format", "json", *files],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return {f"{target['path']}:{target['symbol']}": target for target in json.loads(done.stdout)["targets"]}


def record(python: Path, folder: Path, requirement: str) -> dict[str, Any]:
    """Which callables the command of a package called, and what it took: the least of some runs by turns.

    The scan is measured where nothing of it is known yet, and what is left of it again, for that is no recording.
    """
    package, place = PACKAGES[requirement], unpack(python, folder, requirement)
    linter = [sys.executable, "-m", "theria_lint", "record", *package.place.split(), "--"]
    command = [python, *package.command]
    with tempfile.TemporaryDirectory() as empty:
        _, _, scan = run([*linter, "true"], place, {**package.variables, "XDG_CACHE_HOME": empty})
    least = {"plain": math.inf, "recorded": math.inf, "again": math.inf}
    for _ in range(TIMES):
        _, _, plain = run(command, place, package.variables)
        code, said, spent = run([*linter, *command], place, package.variables)
        _, _, again = run([*linter, "true"], place, package.variables)
        taken = {"plain": plain, "recorded": spent, "again": again}
        least = {name: min(seconds, taken[name]) for name, seconds in least.items()}
    called = list_called(place / ".theria" / "calls")
    return {"code": code, "said": said[-4000:], "scan": scan, "called": called, "targets": {}, **least}


def measure(python: Path, place: Path, found: dict[str, Any], calls: str, path: str) -> None:
    """Add what is said of the callables of a file when they are called so."""
    report = lint(python, place, [path], calls)
    for symbol in found["called"][path]:
        key = f"{path}:{symbol}"
        told = {name: report.get(key, {}).get(name) for name in ("verdict", "reason")}
        found["targets"].setdefault(key, {})[calls] = told


def complete(python: Path, folder: Path, requirement: str, ways: Iterable[str]) -> dict[str, Any]:
    """What is known of a package, once what was not known yet is found out; a file at a time, for it takes long."""
    kept = folder / "results" / f"{requirement.partition('==')[0]}.json"
    kept.parent.mkdir(exist_ok=True)
    place = unpack(python, folder, requirement)
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else record(python, folder, requirement)
    kept.write_text(json.dumps(found, indent=1))
    for calls in ways:
        for path, symbols in found["called"].items():
            if not all(calls in found["targets"].get(f"{path}:{symbol}", {}) for symbol in symbols):
                measure(python, place, found, calls, path)
                kept.write_text(json.dumps(found, indent=1))
    return found


def count(targets: Mapping[str, Any], calls: str) -> int:
    """How many targets have a verdict."""
    return sum(told.get(calls, {}).get("verdict") in VERDICTS for told in targets.values())


def row(requirement: str, found: Mapping[str, Any]) -> str:
    """A line of the table."""
    targets = found["targets"]
    lost = sum("is not kept" in line for line in found["said"].splitlines())
    overhead = (found["recorded"] - found["again"]) / found["plain"] - 1
    both = [told for told in targets.values() if all(count({"": told}, calls) for calls in WAYS)]
    differ = sum(told["recorded"]["verdict"] != told["guessed"]["verdict"] for told in both)
    guessed = count(targets, "guessed") if any("guessed" in told for told in targets.values()) else "-"
    cells = [requirement.replace("==", " ")[:32], len(targets) + lost, lost, count(targets, "recorded"), guessed]
    return (
        "| "
        + " | ".join(
            map(str, [*cells, differ, f"{found['scan']:.1f} s", f"{found['plain']:.1f} s", f"{100 * overhead:+.0f} %"])
        )
        + " |"
    )


def main() -> None:
    """Prints the table, and what has no verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the virtual environment is, or is made")
    parser.add_argument("packages", nargs="*", help="names of packages; all by default")
    parser.add_argument("--calls", nargs="+", choices=WAYS, default=WAYS, help="how they are called; both by default")
    given = parser.parse_intermixed_args()
    folder = given.folder.absolute()
    python = prepare(folder)
    print("| package | called | not kept | verdict as recorded | by guesses | differ | scan | command | recording |")
    print("| --- " * 9 + "|")
    reports = {}
    for requirement in PACKAGES:
        if given.packages and requirement.partition("==")[0] not in given.packages:
            continue
        reports[requirement] = complete(python, folder, requirement, given.calls)
        print(row(requirement, reports[requirement]), flush=True)
    targets = {f"{name} {key}": told for name, found in reports.items() for key, told in found["targets"].items()}
    print(
        f"\nIn all: {count(targets, 'recorded')} of {len(targets)} as recorded, {count(targets, 'guessed')} by guesses."
    )
    for key, told in targets.items():
        if not count({"": told}, "recorded"):
            print(f"- {key}: {told.get('recorded', {}).get('reason')}")


if __name__ == "__main__":
    main()
