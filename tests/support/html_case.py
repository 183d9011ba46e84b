"""Reports for the pages: the sample with everything in it, a hostile one, a large one."""

from __future__ import annotations

from dataclasses import replace

from tests.support.sample_report import EMPTY, KERNEL, REPORT, told
from theria_lint.model import Rewrite
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.result import LintReport

EVIL = "</script></style></title><img src=x onerror=\"document.title='owned'\">&lt;'\"\x00\x1b\u202e\ud800`"
PATH = "kernels/a b.py"

REWRITTEN = REPORT._replace(
    findings=(
        replace(REPORT.findings[0], rewrite=Rewrite("Attention", ((PATH, KERNEL.replace(".detach()", "", 1)),))),
        *REPORT.findings[1:],
    ),
    protections={"namespaces": None, "files": Reason(ReasonCode.OLD_LANDLOCK)},
)


def hostile() -> LintReport:
    """The sample with markup in every text that comes from outside."""
    findings = [
        replace(
            finding,
            reason=told(EVIL),
            suspect=replace(finding.suspect, path=EVIL, symbol=EVIL, message=EVIL, remedy=EVIL, name=EVIL, rule=EVIL),
            rewrite=Rewrite(EVIL, ((EVIL, KERNEL + EVIL),)),
        )
        for finding in REPORT.findings
    ]
    runs = [
        replace(run, backend=EVIL, device=EVIL, dtype=EVIL, oracle=EVIL, status=EVIL, reason=told(EVIL), error=EVIL,
                notes=(told(EVIL),), maml={"status": EVIL, "error": EVIL, "second_order_attn_inputs": [EVIL]},
                gradients={EVIL: 1.0}, blocks={f"{EVIL},{EVIL}": {"norm": 1.0, "oracle_norm": 1.0, "error": 1.0}},
                states={f"{EVIL},{EVIL}": "wrong"})
        for run in REPORT.targets[0].runs
    ]  # fmt: skip
    targets = [
        replace(
            result,
            reason=told(EVIL),
            target=replace(result.target, path=EVIL, symbol=EVIL),
            runs=tuple(replace(run, verdict=result.verdict) for run in runs),
        )
        for result in REPORT.targets
    ]
    error = REPORT.errors[0]._replace(path=EVIL, reason=told(EVIL))
    source = f"{KERNEL}{EVIL}\n"
    return REPORT._replace(findings=tuple(findings), targets=tuple(targets), errors=(error,), unused_ignores=(error,),
        notes=(told(EVIL),), protections={EVIL: told(EVIL)}, sources={(EVIL, None): source, (EVIL, 4): source},
        environment=REPORT.environment._replace(python=EVIL, torch=EVIL, device=EVIL),
    )  # fmt: skip


def large(count: int) -> LintReport:
    """As many copies of the sample's findings and targets, each in a file of its own."""
    findings, targets, sources = [], [], {}
    for number in range(count):
        path = f"package/module_{number}.py"
        sources[path, None] = KERNEL + "\n".join(f"x_{line} = {line}" for line in range(300))
        findings += [replace(f, suspect=replace(f.suspect, path=path, cell=None)) for f in REPORT.findings[:3]]
        targets += [replace(t, target=replace(t.target, path=path)) for t in REPORT.targets]
    return REPORT._replace(findings=tuple(findings), targets=tuple(targets), sources=sources)


__all__ = ["EMPTY", "EVIL", "KERNEL", "PATH", "REPORT", "REWRITTEN", "hostile", "large"]
