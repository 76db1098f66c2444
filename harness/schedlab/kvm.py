# SPDX-License-Identifier: GPL-2.0-only
"""Real time: the same machine under KVM, where that works, and judgement by statistics.

That there is a ``/dev/kvm`` proves nothing, so it is tried: the hypervisor is booted to its
controller, with a time limit, and what was found is said.

A run in real time is a sample.  Each case is run several times, in turn with its reference on stock
Xen (ABBA), one machine at a time.  A clause's figure passes when its mean is shown to be within the
tolerance, fails when it is shown to be outside, and is an error when neither is shown.  Phases in
which nothing is grouped are compared with stock Xen's.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from schedlab import qemu, run, stats
from schedlab.core.command import dry_run
from schedlab.core.errors import LabError
from schedlab.oracle import Check, Judgement, Row, Verdict, worst
from schedlab.qemu import Machine, Process, Watcher
from schedlab.run import Case, Lab
from schedlab.scenario import Dims, Scenario
from schedlab.stats import Answer

DEVICE = Path("/dev/kvm")
# Set where the processor is no real one, to what it is (kvmhost.py): times are of no worth there.
EMULATED = "NEMESIS_EMULATED_PROCESSOR"
PROBE_LIMIT_S = 30.0
# There it takes 10 to 15 s where nothing else runs, so that this is no question of time.
EMULATED_LIMIT_S = 300.0
RUNS = 12
# How far a phase without groups may be from stock Xen's, percent of a pCPU; or relative to it.
APART = 0.5
APART_RELATIVE = 0.01
# What KVM says when it gives up; QEMU then stands still, and does not end.
_GAVE_UP = ("KVM internal error", "KVM: entry failed", "error: kvm run failed", "failed to init")
_READY = '"r":"ready"'
_LAST_LINES = 2


@dataclass(frozen=True)
class Probe:
    """Whether nested Xen runs under KVM here, and what was found."""

    usable: bool
    found: str


# Boots to the controller: "" when it got there, else why not.
Boot = Callable[[], str]


def probe(boot: Boot, device: Path | None = None) -> Probe:
    """Try it."""
    device = device or DEVICE
    try:
        os.close(os.open(device, os.O_RDWR))
    except FileNotFoundError:
        return Probe(False, f"there is no {device}")
    except OSError as error:
        return Probe(False, f"{device} cannot be opened: {error.strerror}")
    started = time.monotonic()
    why_not = boot()
    took_s = time.monotonic() - started
    if why_not:
        return Probe(False, f"{device} opens, but Xen does not boot under it: {why_not}")
    emulated = os.environ.get(EMULATED)
    where = f", on a processor {emulated}" if emulated else ""
    return Probe(True, f"Xen boots under KVM, in {took_s:.1f} s{where}")


def booter(lab: Lab, variant: str, limit_s: float | None = None) -> Boot:
    """Boots the variant on one pCPU."""
    usual_s = EMULATED_LIMIT_S if os.environ.get(EMULATED) else PROBE_LIMIT_S
    patience_s = usual_s if limit_s is None else limit_s

    def boot() -> str:
        artifacts = lab.build(variant)
        machine = Machine("credit2", 1, "cores", 0, accel=qemu.KVM)
        with tempfile.TemporaryDirectory(prefix="nemesis-") as name:
            folder = Path(name)
            (folder / qemu.SCENARIO_FILE).write_text(qemu.NO_SCENARIO)
            with Process(qemu.command(machine, artifacts), folder) as process:
                why_not = _watch(folder, process, lab, patience_s)
            return why_not and _with_last_words(folder, why_not)

    return boot


def _watch(folder: Path, process: Process, lab: Lab, limit_s: float) -> str:
    """Until the controller is there, or it is clear that it will not come."""
    deadline = time.monotonic() + limit_s
    why_not = ""

    def decided() -> bool:
        nonlocal why_not
        log = _text(folder / qemu.QEMU_LOG_FILE)
        if any(sign in log for sign in _GAVE_UP):
            why_not = next(line for line in log.splitlines() if any(s in line for s in _GAVE_UP))
        elif time.monotonic() > deadline:
            why_not = f"not at the controller after {limit_s:g} s"
        return bool(why_not) or _READY in _text(folder / qemu.RECORDS_FILE)

    outcome = Watcher(folder, limit_s, lab.cancel).wait(process, until=decided)
    if outcome.status is not None:
        return outcome.reason or "the machine ended by itself"
    return why_not or outcome.reason


def _with_last_words(folder: Path, why_not: str) -> str:
    """What KVM said besides, and how far Xen got."""
    log = [line for line in _text(folder / qemu.QEMU_LOG_FILE).splitlines() if line.strip()]
    more = next((line for line in log if "emulation failure" in line), "")
    said = " / ".join(qemu.tail(folder / qemu.SERIAL_FILE, _LAST_LINES))
    words = [why_not, *([more] if more and more not in why_not else [])]
    return f"{', '.join(words)}; Xen's last words: {said or 'none'}"


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def measure_all(
    lab: Lab, what: Scenario, variant: str, with_stock: bool, folder: Path, runs: int = RUNS
) -> list[tuple[Case, Case | None]]:
    """All cells of the matrix, one machine at a time."""
    enough(runs)
    return [_cell(lab, what, dims, variant, with_stock, folder, runs) for dims in what.matrix()]


def enough(runs: int) -> None:
    """LabError where so many show nothing."""
    if runs < stats.LEAST_RUNS:
        raise LabError(
            f"{runs} runs in real time show nothing", f"at least {stats.LEAST_RUNS} are needed"
        )


def _cell(
    lab: Lab, what: Scenario, dims: Dims, variant: str, with_stock: bool, folder: Path, runs: int
) -> tuple[Case, Case | None]:
    """In turn with stock, where that is asked for."""
    cases: dict[str, list[Case]] = {"stock": [], variant: []}
    for name, number in stats.turns(["stock", variant] if with_stock else [variant], runs):
        where = folder / f"{dims.name()}-{name}" / f"{number:02}"
        if with_stock and name == "stock":
            cases[name].append(run.reference(lab, what, dims, where))
        else:
            cases[name].append(run.measure(lab, what, dims, variant, where))
        if not dry_run():
            last = cases[name][-1]
            said = f"{last.judgement.verdict.word}, {last.outcome.wall_s:.1f} s"
            text = f"  {dims.name()} {name} … {said} ({number}/{runs})"
            print(text, file=sys.stderr, flush=True)
    references = cases["stock"] if with_stock else []
    stock = [case.judgement for case in references]
    ours = combine([case.judgement for case in cases[variant]], stock)
    first, reference = cases[variant][0], next(iter(references), None)
    return (
        replace(first, judgement=ours),
        None if reference is None else replace(reference, judgement=combine(stock, [])),
    )


def combine(runs: Sequence[Judgement], stock: Sequence[Judgement]) -> Judgement:
    """The judgement of a case by those of its runs, and of the reference's (none: not compared)."""
    broken = [one for one in runs if one.verdict >= Verdict.ERROR]
    if broken or not runs:
        verdict = worst(one.verdict for one in broken)
        reason = broken[0].reason if broken else "never run"
        return Judgement(verdict, f"in {len(broken)} of {len(runs)} runs: {reason}", (), ())
    checks = [_check([one.checks for one in runs], key) for key in _keys(runs)]
    rows = []
    for i, row in enumerate(runs[0].rows):
        of = [one.rows[i] for one in runs]
        beside = [one.rows[i] for one in stock]
        if beside and not row.grouped:
            checks.append(_compare(of, beside))
        judged = [check.verdict for check in checks if check.phase == row.phase]
        rows.append(_mean_row(of, worst(judged) if judged else None))
    verdict = worst([Verdict.PASS, *(check.verdict for check in checks)])
    bad = [check for check in checks if check.verdict == verdict and verdict > Verdict.PASS]
    reason = f"{bad[0].clause} in {bad[0].phase}: {bad[0].reason}" if bad else ""
    return Judgement(verdict, reason, tuple(rows), tuple(checks))


_Key = tuple[str, str, str, tuple[str, ...], str]
# Judged by their mean's distance from what is expected: +1, above it counts; -1, below it; 0, both.
BY_MEAN = {"E1.cap": 0, "E1.upper": 1, "E1.lower": -1, "E2.weight": 0, "share": 0}
BY_MEAN |= {"E4.even": 0, "E4.weighted": 0}


def _key(check: Check) -> _Key:
    # Some say figures of theirs in words.
    where = check.where if check.clause in BY_MEAN else re.sub(r"\d+(\.\d+)?", "#", check.where)
    return (check.clause, check.phase, where, check.domains, check.unit)


def _keys(runs: Sequence[Judgement]) -> list[_Key]:
    """Every check of any run, once."""
    return list(dict.fromkeys(_key(check) for one in runs for check in one.checks))


def _check(runs: Sequence[Sequence[Check]], key: _Key) -> Check:
    """One check by what it found in all runs; to be there in some only is an error."""
    by_run = [[check for check in checks if _key(check) == key] for checks in runs]
    first = next(check for checks in by_run for check in checks)
    there = sum(1 for checks in by_run if checks)
    if there != len(runs):
        reason = f"judged in {there} of {len(runs)} runs"
        return replace(first, reason=reason, verdict=Verdict.ERROR)
    if first.clause in BY_MEAN:
        return _by_mean([checks[0] for checks in by_run])
    # The worst of those that differ in a figure of their words only.
    found = [max(checks, key=lambda check: check.verdict) for checks in by_run]
    bad = [check for check in found if check.verdict > Verdict.PASS]
    if not bad or not isinstance(first.measured, (int, float)):
        # Words (an errno, a rule of the statistics) have no noise: each run has to be right.
        return bad[0] if bad else first
    answer = stats.majority(len(bad), len(found))
    said = f"bad in {len(bad)} of {len(found)} runs"
    verdict = Verdict.FAIL if answer == Answer.YES else Verdict.ERROR
    return replace(bad[0], reason=f"{bad[0].reason}; {said}", verdict=verdict)


def _by_mean(found: Sequence[Check]) -> Check:
    first, side = found[0], BY_MEAN[found[0].clause]
    errors = [float(check.measured) - float(check.expected) for check in found]
    beyond = [
        (side * error if side else abs(error)) - check.tolerance
        for error, check in zip(errors, found)
    ]
    answer = stats.mean_at_most(beyond, 0.0)
    said = f"{len(found)} runs, beyond the tolerance by {fmean(beyond):.4g} {first.unit} on average"
    return replace(
        first,
        expected=fmean(float(check.expected) for check in found),
        measured=fmean(float(check.measured) for check in found),
        tolerance=fmean(check.tolerance for check in found),
        reason=f"{first.reason}; {said}: {_WORDS[answer]}",
        verdict=_VERDICT[answer],
    )


# Undecided is no pass.
_VERDICT = {Answer.YES: Verdict.PASS, Answer.NO: Verdict.FAIL, Answer.UNDECIDED: Verdict.ERROR}
_WORDS = {
    Answer.YES: "shown to be within it",
    Answer.NO: "shown to be outside",
    Answer.UNDECIDED: "neither is shown, more runs are needed",
}


def _compare(ours: Sequence[Row], stock: Sequence[Row]) -> Check:
    """A phase without groups, against stock Xen (contract E6)."""
    a, b = [row.share for row in stock], [row.share for row in ours]
    threshold = max(APART, APART_RELATIVE * fmean(a))
    answer = stats.alike(a, b, threshold)
    return Check(
        clause="E6.stock",
        phase=ours[0].phase,
        where="the whole phase",
        domains=ours[0].domains,
        expected=fmean(a),
        measured=fmean(b),
        tolerance=threshold,
        unit="% of a pCPU",
        reason=f"{len(a)} runs of stock Xen and {len(b)} of this in turn: {_WORDS[answer]}",
        verdict=_VERDICT[answer],
    )


def _mean_row(rows: Sequence[Row], verdict: Verdict | None) -> Row:
    """The means of the figures."""
    first = rows[0]
    errors = [row.error for row in rows if row.error is not None]
    worsts = [row.worst_window for row in rows if row.worst_window is not None]
    return replace(
        first,
        share=fmean(row.share for row in rows),
        error=fmean(errors) if errors else None,
        worst_window=max(worsts, key=abs) if worsts else None,
        split=tuple(fmean(parts) for parts in zip(*(row.split for row in rows))),
        windows=tuple(fmean(parts) for parts in zip(*(row.windows for row in rows))),
        verdict=verdict,
    )


def wants(name: str) -> str:
    """An accelerator by its name; LabError where there is none of it."""
    if name not in (qemu.TCG, qemu.KVM):
        raise LabError(f"ACCEL is {name}", f"it is {qemu.TCG} or {qemu.KVM}")
    return name
