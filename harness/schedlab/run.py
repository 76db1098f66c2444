# SPDX-License-Identifier: GPL-2.0-only
"""One case: a scenario on one machine with one build, from inputs to judged records.

Also what stands around a case: the same scenario on the stock hypervisor as a reference, and the
calibration without which nothing is measured.

A case is a pure function of its inputs, so what one left is kept in the store, by their hash, and
is not measured again; what it left, not its judgement: the oracle may change.  ``Lab.cache=False``
measures again, and records that are not the same to the byte are an error of the lab.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from schedlab import checkpoint, oracle, panic, qemu, records, scenario, timeline
from schedlab.core.command import dry_run
from schedlab.core.errors import LabError
from schedlab.core.store import Store
from schedlab.oracle import Judgement, Verdict
from schedlab.qemu import Artifacts, Machine, Outcome, Process, Watcher
from schedlab.scenario import GROUP_OPS, Dims, Scenario
from schedlab.timeline import Timeline

# Wall seconds allowed per virtual second on top of the watchdog's: the controller writes nothing
# while its timeline runs, so that the measured machine is left alone.  The slowest measured is 0.7
# (DESIGN.md, 2).
WALL_PER_VIRTUAL = 2.0
# What a hypervisor without scheduling domains answers to the first of their operations.
_NO_GROUPS = frozenset({"ENOSYS", "EOPNOTSUPP"})
# The store's step of cases, and the file there that tells how one went.
STEP = "case"
_OUTCOME_FILE = "outcome.json"


@dataclass
class Lab:
    """What all cases of a run share."""

    store: Store
    build: Callable[[str], Artifacts]
    logs: Path
    cold: bool = False
    cache: bool = True
    accel: str = qemu.TCG
    watchdog_s: float = qemu.DEFAULT_WATCHDOG_S
    cancel: threading.Event = field(default_factory=threading.Event)
    xen_options: str = ""


@dataclass(frozen=True)
class Case:
    """A judged case; ``folder`` has its records, serial log, scenario and command.

    ``cached``: it was not measured now; ``outcome`` is of when it was.
    """

    scenario: Scenario
    dims: Dims
    variant: str
    folder: Path
    command: str
    context: Mapping[str, str]
    outcome: Outcome
    records: records.Records
    judgement: Judgement
    cached: bool = False
    timeline: Timeline | None = None


def machine_of(dims: Dims, xen_options: str = "", accel: str = qemu.TCG) -> Machine:
    """The virtual machine of a cell of the matrix."""
    return Machine(
        *(dims.scheduler, dims.pcpus, dims.topology, dims.shift),
        xen_options=xen_options,
        accel=accel,
    )


@dataclass(frozen=True)
class _Prepared:
    """All that a case is made of; ``inputs`` are what its result is kept by."""

    what: Scenario
    text: str
    command: qemu.Command
    context: dict[str, str]
    inputs: Mapping[str, str]
    incoming: Path | None
    symbols: Path


def _prepare(lab: Lab, what: Scenario, dims: Dims, variant: str, groups: bool) -> _Prepared:
    what = what.of(dims)
    artifacts = lab.build(dims.variant(variant))
    machine = machine_of(dims, lab.xen_options, lab.accel)
    incoming: Path | None = None
    context = {f"{variant}.{name}": value for name, value in sorted(artifacts.hashes.items())}
    context["accelerator"] = lab.accel
    if not lab.cold and lab.accel == qemu.TCG:
        made = checkpoint.get(lab.store, machine, artifacts, lab.logs, lab.watchdog_s, lab.cancel)
        incoming = made / checkpoint.STATE_FILE
        if not dry_run():
            context["checkpoint"] = lab.store.manifest(made)["key"]
    text = what.as_json(dims, groups=groups)
    context["scenario"] = hashlib.sha256(text.encode()).hexdigest()
    images = what.images(dims.kind)
    command = qemu.command(machine, artifacts, images, incoming=incoming)
    wanted = ("xen", "kernel", "initramfs", "qemu", *(f"guest/{image}" for image in images))
    inputs = {
        **{name: artifacts.hashes[name] for name in wanted},
        "arguments": json.dumps([*machine.arguments(), qemu.KERNEL_ARGS]),
        "scenario": text,
        "start": context.get("checkpoint", "cold"),
        "format": "2",
    }
    return _Prepared(what, text, command, context, inputs, incoming, artifacts.xen_syms)


def is_known(lab: Lab, what: Scenario, dims: Dims, variant: str) -> bool:
    """Whether it has been measured before."""
    return lab.store.find(STEP, _prepare(lab, what, dims, variant, True).inputs) is not None


def measure(
    lab: Lab,
    what: Scenario,
    dims: Dims,
    variant: str,
    folder: Path,
    *,
    groups: bool = True,
) -> Case:
    """Run the scenario in ``folder`` and judge it.

    Bad behaviour of the subject is a verdict, not an exception.
    With DRY=1 the command is printed, nothing runs, and the case passes without checks.
    """
    prepared = _prepare(lab, what, dims, variant, groups)
    what, context = prepared.what, prepared.context
    script = prepared.command.script()
    if dry_run():
        print(f"# {what.name} on {variant} {dims.name()}, in {folder}")
        print(prepared.command.lines(), end="", flush=True)
        empty = records.parse([])
        idle = Judgement(Verdict.SKIP, "printed, not run", (), ())
        return Case(what, dims, variant, folder, script, context, Outcome(None), empty, idle)
    folder.mkdir(parents=True, exist_ok=True)
    inputs = prepared.inputs
    # In real time a run is a sample, which is not known from its inputs.
    sample = lab.accel != qemu.TCG
    known = None if sample else lab.store.find(STEP, inputs)
    if known is not None and lab.cache:
        _copy(known, folder)
        outcome = Outcome(**json.loads((known / _OUTCOME_FILE).read_text()))
        case = _judged(what, dims, variant, folder, script, context, outcome, groups)
        return replace(case, cached=True)
    (folder / qemu.SCENARIO_FILE).write_text(prepared.text)
    (folder / "command.sh").write_text(script)
    if prepared.incoming is not None:
        shutil.copyfile(prepared.incoming.parent / qemu.RECORDS_FILE, folder / "boot.jsonl")
    patience_s = lab.watchdog_s + WALL_PER_VIRTUAL * what.length_ns / 1e9
    with Process(prepared.command, folder) as process:
        outcome = Watcher(folder, patience_s, lab.cancel).wait(process)
    if outcome.status != qemu.STATUS_ENDED:
        backtrace = panic.explain(folder / qemu.SERIAL_FILE, prepared.symbols)
        if backtrace:
            (folder / panic.BACKTRACE_FILE).write_text(backtrace + "\n")
    case = _judged(what, dims, variant, folder, script, context, outcome, groups)
    if known is not None:
        return _same(case, known)
    if outcome.status == qemu.STATUS_ENDED and not sample:

        def keep(entry: Path) -> None:
            _copy(folder, entry)
            (entry / _OUTCOME_FILE).write_text(json.dumps(asdict(outcome)))

        lab.store.get(STEP, inputs, keep, title="")
    return case


def _copy(source: Path, folder: Path) -> None:
    """The files that a case leaves."""
    names = (qemu.SCENARIO_FILE, "command.sh", "boot.jsonl")
    for name in (*names, qemu.RECORDS_FILE, qemu.SERIAL_FILE, qemu.QEMU_LOG_FILE):
        if (source / name).exists():
            shutil.copyfile(source / name, folder / name)


def _same(case: Case, known: Path) -> Case:
    """The case, or an error where it is not what the same inputs gave before."""
    before = (known / qemu.RECORDS_FILE).read_bytes()
    try:
        now = (case.folder / qemu.RECORDS_FILE).read_bytes()
    except FileNotFoundError:
        now = b""
    difference = records.first_difference(before, now)
    if difference is None:
        return case
    reason = f"the same inputs gave other records before ({known}): {difference}"
    return replace(case, judgement=replace(case.judgement, verdict=Verdict.ERROR, reason=reason))


def _judged(
    what: Scenario,
    dims: Dims,
    variant: str,
    folder: Path,
    script: str,
    context: Mapping[str, str],
    outcome: Outcome,
    groups: bool,
) -> Case:
    try:
        found = records.parse(_lines(folder / qemu.RECORDS_FILE))
        real = context["accelerator"] != qemu.TCG
        judgement = oracle.judge(what, dims, found, outcome, groups=groups, real=real)
        judgement, trace = timeline.judged(judgement, found)
    except records.RecordError as error:
        found = records.parse([])
        verdict, reason = Verdict.ERROR, str(error)
        if outcome.status != qemu.STATUS_ENDED:
            verdict, reason = Verdict.CRASH, outcome.reason or reason
        judgement, trace = Judgement(verdict, reason, (), ()), None
    if groups and judgement.verdict == Verdict.FAIL and (said := _no_groups(found)) is not None:
        reason = f"this hypervisor ({variant}) has no scheduling domains: {said}"
        judgement = Judgement(Verdict.ERROR, f"{reason}; use --variant patched", (), ())
    if trace is not None:
        # For ui.perfetto.dev, by hand: nothing is fetched.
        text = json.dumps(timeline.chrome_trace(trace, found), separators=(",", ":"))
        (folder / "timeline.json").write_text(text + "\n")
    parts = (what, dims, variant, folder, script, context, outcome, found, judgement)
    return Case(*parts, timeline=trace)


def _no_groups(found: records.Records) -> str | None:
    first = next((op for op in found.ops if op.op in GROUP_OPS), None)
    if first is None or first.errno not in _NO_GROUPS:
        return None
    return f"{first.op} answered {first.errno}"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []


def hello_of(case: Case) -> records.Hello | None:
    """What was booted, as the controller saw it."""
    if case.records.hello is not None:
        return case.records.hello
    try:
        return records.parse(_lines(case.folder / "boot.jsonl")).hello
    except records.RecordError:
        return None


def reference(lab: Lab, what: Scenario, dims: Dims, folder: Path) -> Case:
    """The scenario without its operations on groups, on stock Xen.  LabError when it does not run,
    with what it left copied to the lab's logs.
    """
    case = measure(lab, what, dims, "stock", folder, groups=False)
    if case.judgement.verdict > Verdict.SKIP:
        raise LabError(
            f"the stock hypervisor did not run {what.name} ({dims.name()}): "
            f"{case.judgement.reason}",
            "see the serial log",
            _keep(folder, lab.logs / f"{dims.name()}-stock"),
        )
    return case


def calibrate(lab: Lab, variant: str, path: Path) -> Path:
    """Run the calibration for this build and QEMU unless its verdict is stored.

    Returns the folder with its records; raises LabError when it failed.  A failure is stored too:
    the answer will not change.
    """
    artifacts = lab.build(variant)
    name = variant.replace("/", "-")
    what = scenario.load(path)
    dims = next(what.matrix())
    inputs = {
        "xen": artifacts.hashes["xen"],
        "qemu": artifacts.hashes["qemu"],
        "machine": json.dumps(machine_of(dims).arguments()),
        "scenario": what.as_json(dims),
        "expected": hashlib.sha256(what.text.encode()).hexdigest(),
        "format": "2",
    }
    logs = lab.logs / f"calibration-{name}"

    def make(folder: Path) -> None:
        # Cold, so that the verdict depends on the inputs alone, and that a QEMU too old for our
        # checkpoints is told what is really wrong with it.
        cold = replace(lab, cold=True, xen_options="")
        case = measure(cold, what, dims, variant, logs if dry_run() else folder)
        if dry_run():
            return
        if case.judgement.verdict >= Verdict.ERROR:
            raise LabError(
                f"the calibration did not run: {case.judgement.reason}",
                "see the serial log",
                _keep(folder, logs),
            )
        verdict = {"verdict": case.judgement.verdict.word, "reason": case.judgement.reason}
        (folder / "verdict.json").write_text(json.dumps(verdict) + "\n")

    title = f"calibration of {variant} Xen on QEMU {artifacts.qemu.version}"
    folder = lab.store.get("calibration", inputs, make, title=title)
    if dry_run():
        return folder
    verdict = json.loads((folder / "verdict.json").read_text())
    if verdict["verdict"] != Verdict.PASS.word:
        raise LabError(
            f"refusing to measure: this Xen on QEMU {artifacts.qemu.version} fails calibration: "
            f"{verdict['reason']}",
            "stock scheduling has a known answer there; use the locked QEMU (>= 10) and Xen. "
            f"The records are in {folder}",
        )
    return folder


def _keep(folder: Path, kept: Path) -> Path | None:
    """Copy a failure's files out of a folder that is about to go; returns the best log."""
    kept.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        if file.is_file():
            shutil.copyfile(file, kept / file.name)
    return log_of(kept)


def log_of(folder: Path) -> Path | None:
    """The serial log, or QEMU's own where that says nothing."""
    for name in (qemu.SERIAL_FILE, qemu.QEMU_LOG_FILE):
        if (folder / name).exists() and os.path.getsize(folder / name):
            return folder / name
    return None
