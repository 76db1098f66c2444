# SPDX-License-Identifier: GPL-2.0-only
"""The oracle: from a scenario and the records of a run to checks.

Pure functions; nothing is measured here.

Shares are CPU time over virtual time, in percent of one pCPU, between two samples as they were
really taken (the sample's own clock, not the time that was asked for).

The bound on a capped group is contract E1: in a window w it gets ``cap x w``, give or take ``cap x
period + overrun``, where overrun is one enforcement quantum for each unit that can run at once.
From 1 s on the project's own aims (DESIGN.md, 4) are tighter, and are what is judged: an error of
half a percent of a second's cap, or the overrun, whichever is more, and no more in a longer window;
over 10 s a tenth of a percent of the cap, overrun and all. They are about whole refills, and about
domains that always want to run: budget that one leaves when it sleeps may be used up to a period
later, so there E1 itself is the bound. A group that others keep from a pCPU may have to wait for a
turn of theirs when a window ends, and has that much less in it and more in the next: the turn's
worth is added, to E1 at most. A sample is not quite an instant: what can run within its span is
added, and named.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from schedlab import devices
from schedlab.devices import Finding, Traffic
from schedlab.qemu import STATUS_ENDED, STATUS_GAVE_UP, Outcome
from schedlab.records import Op, Records, Sample
from schedlab.scenario import (
    DEFAULT_SHARE,
    DOM0,
    DRIVER,
    STUB,
    Dims,
    Domain,
    Expectation,
    Phase,
    Scenario,
    State,
    Step,
    looks,
)

_MS = 1_000_000

# SCHEDDOM_PERIOD of the series (two refills of 10 ms), for both schedulers: budget is the group's,
# not theirs.
PERIOD_NS = 20 * _MS
# SCHEDDOM_REFILL of the series: what nr_periods counts.
REFILL_NS = 10 * _MS
# The overrun that is allowed a unit that can run at once (DESIGN.md, 4).
QUANTUM_NS = _MS // 2
# The project's own aims, relative to the cap (DESIGN.md, 4): in AIM_NS, and over LONG_NS.
AIM = 0.005
AIM_NS = 1_000 * _MS
LONG = 0.001
LONG_NS = 10_000 * _MS
# Contract E4: aim for the split between equal domains, relative to an even part.
EVEN = 0.02
# Contract E2: aim for the group's share against its master's alone, relative.
WEIGHT = 0.01
# How far weighted shares may be apart at an instant: credit lets a unit run for a slice of 30 ms,
# credit2 hands out credit for 10 ms at a time (CSCHED2_CREDIT_INIT).
TURN_NS: Mapping[str, int] = {"credit": 30 * _MS, "credit2": 10 * _MS}
# How a check says that it is about a group's statistics, which have one instant and no loss; a
# domain's cpu_ns is Xen's runstate, which loses the time by which a waker's clock is ahead.
OWN = "usage_ns"
# What Xen executes at most, of its own, for a vCPU that it dispatches, by the guest's kind
# (measured: pv 600 to 6600, pvh 5600 to 14 700), and for one that waited and was woken, its
# hypercalls included (pv 2700 to 6600; pvh 11 200 to 21 500, a pair 29 000 to 41 000).
SWITCH_INSTRUCTIONS = {"pv": 7_000, "pvh": 16_000, "hvm": 16_000}
WAIT_INSTRUCTIONS = {"pv": 7_000, "pvh": 45_000, "hvm": 45_000}
# As WAIT_INSTRUCTIONS, of a device model: it wakes another domain's vCPU, and the pCPU goes from a
# PV guest to a hardware-virtualised one and back (measured: 8000 to 10 600).
DEVICE_INSTRUCTIONS = 14_000
# How often a gap may be too short to be seen by the guest, a group's small parts apart (measured:
# half as often at most).
UNSEEN_EVERY_NS = 400 * _MS
WITNESS = "witness"
# Workloads that want to run at any time.
BUSY = frozenset({"burner", "yielder", "lockstep", "hotplug", "intruder"})
# Those whose vCPUs all do, too: budget that a vCPU leaves when it goes down is as a sleeper's.
STEADY = BUSY - {"hotplug"}
# Whether a group that keeps the contract and misses an aim has failed.  Either way the page of `lab
# accept` lists what misses one.
AIMS_JUDGED = True
# A sample that comes later than this part of its window says that dom0 did not get its CPU: not a
# measurement.
LATE = 0.1
# More than this above all of its pCPUs (percent of one) says that the pCPUs' clocks have drifted
# apart (DESIGN.md, determinism 2): not a measurement either.
DRIFT = 0.1


class Verdict(IntEnum):
    """The five verdicts, the worst last; of several the worst counts."""

    PASS = 0
    SKIP = 1
    FAIL = 2
    ERROR = 3
    CRASH = 4

    @property
    def word(self) -> str:
        """As it is written in results."""
        return self.name.lower()


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of them; CRASH of none, for silence is no pass."""
    return max(verdicts, default=Verdict.CRASH)


@dataclass(frozen=True)
class Check:
    """One thing expected and what was measured; ``unit`` is of all three figures.

    ``span_ns`` is the time that shares are of; 0 where there are none.  ``aim``: what the project
    aims for, where that is less than what the clause allows.  ``below``: what is allowed on that
    side, where it is not ``tolerance``, too.
    """

    clause: str
    phase: str
    where: str
    domains: tuple[str, ...]
    expected: float | str
    measured: float | str
    tolerance: float
    unit: str
    reason: str
    verdict: Verdict
    span_ns: int = 0
    aim: float | None = None
    below: float | None = None


@dataclass(frozen=True)
class Row:
    """A phase as the table shows it; shares and errors in percent, errors relative to the cap."""

    phase: str
    domains: tuple[str, ...]
    cap_percent: int
    share: float
    error: float | None
    worst_window: float | None
    split: tuple[float, ...]
    windows: tuple[float, ...]
    grouped: bool
    verdict: Verdict | None
    # By domain, of those that have a device.
    traffic: Mapping[str, Traffic] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """A run's verdict, with the reason when it is worse than a pass."""

    verdict: Verdict
    reason: str
    rows: tuple[Row, ...]
    checks: tuple[Check, ...]


def judge(
    scenario: Scenario,
    dims: Dims,
    records: Records,
    outcome: Outcome,
    *,
    groups: bool = True,
    real: bool = False,
) -> Judgement:
    """Judge a run; ``groups=False``: the scenario without operations on groups, rows only.

    ``real``: in real time, where the host takes CPU time, and an instruction is no fixed time.
    """
    broken = _broken(records, outcome)
    if broken is not None:
        return Judgement(broken[0], broken[1], (), ())
    steps = scenario.steps(groups=groups)
    checks = _execution(scenario, steps, records)
    if not checks or worst(c.verdict for c in checks) < Verdict.ERROR:
        checks += _plausible(scenario, dims, records)
    rows: list[Row] = []
    if all(c.verdict < Verdict.ERROR for c in checks):
        for phase in scenario.phases:
            found: list[Check] = []
            if groups:
                found = _membership(phase, records)
                found += _witness_checks(scenario, dims, phase, records, real)
                found += _device_checks(scenario, phase, records)
                for expectation in phase.expect:
                    found += _expect(scenario, dims, phase, expectation, records)
            checks += found
            # That a guest agrees with the hypervisor says nothing of a clause.
            passed = (WITNESS, Verdict.PASS)
            judged = [c.verdict for c in found if (c.clause, c.verdict) != passed]
            for names in phase.rows:
                whole = set(names) == set(phase.show)
                rows.append(
                    _row(phase, names, records, worst(judged) if judged and whole else None)
                )
    verdict = worst([Verdict.PASS, *(c.verdict for c in checks)])
    bad = [c for c in checks if c.verdict == verdict and verdict > Verdict.PASS]
    return Judgement(verdict, _sentence(bad[0]) if bad else "", tuple(rows), tuple(checks))


def share(one: Sample, two: Sample, names: Sequence[str]) -> float:
    """The share of ``names`` together between two samples, percent of one pCPU."""
    return 100.0 * sum(_used(one, two, name) for name in names) / (two.t_ns - one.t_ns)


def max_min(
    total: float, limits: Sequence[float], weights: Sequence[float] | None = None
) -> list[float]:
    """``total`` shared out max-min fairly, by ``weights`` (none: equal ones) among users who can
    use at most ``limits`` each.
    """
    weigh = [1.0] * len(limits) if weights is None else weights
    parts = [0.0] * len(limits)
    left, weight = total, sum(weigh)
    for i in sorted(range(len(limits)), key=lambda k: limits[k] / weigh[k]):
        parts[i] = min(limits[i], left * weigh[i] / weight)
        left -= parts[i]
        weight -= weigh[i]
    return parts


def cap_contract(cap_percent: int, window_ns: int, at_once: int) -> tuple[float, str]:
    """What E1 allows a capped group's share (percent of one pCPU), and how it comes about.

    ``at_once`` is how many of its units can run at once.
    """
    slack_ns = cap_percent / 100 * PERIOD_NS + QUANTUM_NS * at_once
    return 100.0 * slack_ns / window_ns, (
        f"E1: cap {cap_percent} % x period {PERIOD_NS / _MS:g} ms + {at_once} x quantum "
        f"{QUANTUM_NS / _MS:g} ms in {window_ns / 1e9:.4g} s"
    )


def cap_aim(cap_percent: int, window_ns: int, at_once: int) -> tuple[float, str] | None:
    """The same by the project's own aims; None where they say nothing.

    An aim is about whole refills.  Where samples came late, a window cuts one: in the piece that is
    left over all of the refill may have been used, or nothing.
    """
    if window_ns < AIM_NS * (1 - LATE):
        return None
    cap = cap_percent / 100
    overrun_ns, aim_ns, long_ns = QUANTUM_NS * at_once, AIM * cap * AIM_NS, LONG * cap * window_ns
    if window_ns >= LONG_NS * (1 - LATE) or long_ns > max(aim_ns, overrun_ns):
        allowed_ns, what = long_ns, f"{LONG:.1%} of the cap"
    elif aim_ns > overrun_ns:
        allowed_ns, what = aim_ns, f"{AIM:.1%} of the cap in {AIM_NS / 1e9:g} s,"
    else:
        allowed_ns, what = overrun_ns, f"{at_once} x quantum {QUANTUM_NS / _MS:g} ms"
    piece_ns = min(window_ns % REFILL_NS, -window_ns % REFILL_NS)
    most_ns = min(piece_ns * at_once, cap * REFILL_NS)
    cut_ns = max(cap * piece_ns, most_ns - cap * piece_ns)
    reason = f"aim: {what} in {window_ns / 1e9:.4g} s"
    if cut_ns > _MS / 10:
        reason += f"; + {cut_ns / _MS:.3g} ms of a refill that it cuts"
    return 100.0 * (allowed_ns + cut_ns) / window_ns, reason


def _used(one: Sample, two: Sample, name: str) -> int:
    before, after = one.domains.get(name), two.domains.get(name)
    if before is None or after is None or before.cpu_ns is None or after.cpu_ns is None:
        return 0
    return after.cpu_ns - before.cpu_ns


def _broken(records: Records, outcome: Outcome) -> tuple[Verdict, str] | None:
    """Whether the run came to its end at all; silence is a crash."""
    if outcome.status == STATUS_GAVE_UP:
        said = records.errors[-1] if records.errors else None
        detail = f": {said.what} ({said.errno})" if said else " without an error record"
        return Verdict.ERROR, f"the controller gave up{detail}"
    if outcome.status != STATUS_ENDED:
        return Verdict.CRASH, outcome.reason or "no verdict was ever seen"
    if not records.ended:
        return Verdict.CRASH, "the records have no end"
    if records.errors:
        first = records.errors[0]
        return Verdict.ERROR, f"the controller: {first.what} ({first.errno})"
    for sample in records.samples.values():
        for use in sample.domains.values():
            if use.state == "crashed" or use.guest_failure:
                failure = f" (guest failure {use.guest_failure})" if use.guest_failure else ""
                return Verdict.CRASH, f"domain {use.name} crashed by {sample.label}{failure}"
    return None


def _execution(scenario: Scenario, steps: Sequence[Step], records: Records) -> list[Check]:
    """Whether the timeline was carried out: every operation, its errno, every sample, in time."""
    checks: list[Check] = []
    ops = {op.index: op for op in records.ops}
    phases = {id(s): p for p in scenario.phases for s in p.steps}
    edges = {label: p for p in scenario.phases for label in p.labels}
    for index, step in enumerate(steps):
        if step.op == "end":
            continue
        if step.op == "sample":
            label = step.arguments["label"]
            sample = records.samples.get(label)
            if sample is None:
                checks.append(_fault(label, f"sample {index} ({label}) is not in the records"))
            elif label in edges:
                late_ns = sample.t_ns - sample.due_ns
                if late_ns > LATE * edges[label].window_ns or late_ns < 0:
                    what = f"sample {label} was taken {late_ns / 1e6:.3f} ms late"
                    checks.append(_fault(label, f"{what}: dom0 did not get its CPU in time"))
            continue
        op, phase = ops.get(index), phases[id(step)]
        names = tuple(str(v) for k, v in step.arguments.items() if k in _ROLES)
        if op is None or op.op != step.op:
            checks.append(
                _fault(phase.name, f"operation {index} ({step.op}) is not in the records")
            )
            continue
        checks.append(
            Check(
                clause="op",
                phase=phase.name,
                where=f"{step.op} {' '.join(names)} at {step.t_ns / 1e9:g} s",
                domains=names,
                expected=step.errno,
                measured=op.errno,
                tolerance=0,
                unit="errno",
                reason="what the contract's table of errors says",
                verdict=Verdict.PASS if op.errno == step.errno else Verdict.FAIL,
            )
        )
        if step.count is not None:
            checks.append(_count_check(phase, step, op))
        first = records.samples.get(phase.labels[0]) if phase.labels else None
        if first is not None and first.t_ns - op.done_ns < phase.settle_ns:
            what = f"sample {first.label} was taken {(first.t_ns - op.done_ns) / 1e6:.3f} ms"
            checks.append(_fault(phase.name, f"{what} after {step.op}, which has not settled"))
    return checks


def _count_check(phase: Phase, step: Step, op: Op) -> Check:
    """The true count, and as many entries as there is room for."""
    fits = min(step.count or 0, step.arguments["room"])
    expected, measured = f"{step.count} domains, {fits} written", "none"
    if op.count is not None:
        measured = f"{op.count} domains, {op.written} written"
    return Check(
        clause="op",
        phase=phase.name,
        where=f"{step.op} with room for {step.arguments['room']} at {step.t_ns / 1e9:g} s",
        domains=(step.arguments["master"],),
        expected=expected,
        measured=measured,
        tolerance=0,
        unit="count",
        reason="what fits is written, the true count returned",
        verdict=Verdict.PASS if measured == expected else Verdict.FAIL,
    )


def _plausible(scenario: Scenario, dims: Dims, records: Records) -> list[Check]:
    """No domain got more than its vCPUs can use; nothing to say when that is so."""
    vcpus = {DOM0: 1} | {d.name: d.vcpus for d in scenario.domains}
    checks = []
    for phase in scenario.phases:
        edges = [records.samples[label] for label in phase.labels]
        for k, (one, two) in enumerate(zip(edges, edges[1:]), 1):
            for name, count in vcpus.items():
                most = 100.0 * min(count, dims.pcpus)
                reading = most * (one.span_ns + two.span_ns) / (two.t_ns - one.t_ns)
                got = share(one, two, (name,))
                if got > most + reading + DRIFT:
                    what = f"{name} got {got:.3f} % in window {k} of {phase.name}"
                    checks.append(_fault(phase.name, f"{what}: the pCPUs' clocks drifted apart"))
    return checks


_ROLES = ("domain", "master", "member")


def _fault(phase: str, what: str) -> Check:
    return Check("lab", phase, "", (), "", what, 0, "", what, Verdict.ERROR)


def _membership(phase: Phase, records: Records) -> list[Check]:
    """The groups the hypervisor reports at the phase's edges are those that the scenario made."""
    expected = {
        frozenset(phase.state.group_of(master)) for master in set(phase.state.master_of.values())
    }
    for label in phase.labels:
        groups = records.samples[label].groups
        found = {frozenset(d.name for d in g.domains) for g in groups}
        if found != expected:
            return [_groups_check(phase, label, expected, found)]
    return [_groups_check(phase, "every sample", expected, expected)] if expected else []


def _groups_check(
    phase: Phase, where: str, expected: set[frozenset[str]], found: set[frozenset[str]]
) -> Check:
    return Check(
        clause="groups",
        phase=phase.name,
        where=where,
        domains=tuple(sorted({name for group in expected | found for name in group})),
        expected=_show_groups(expected),
        measured=_show_groups(found),
        tolerance=0,
        unit="groups",
        reason="membership is what the operations made it",
        verdict=Verdict.PASS if expected == found else Verdict.FAIL,
    )


def _show_groups(groups: set[frozenset[str]]) -> str:
    return "; ".join(sorted(" + ".join(sorted(group)) for group in groups)) or "none"


def _expect(
    scenario: Scenario, dims: Dims, phase: Phase, expectation: Expectation, records: Records
) -> list[Check]:
    edges = [records.samples[label] for label in phase.labels]
    if expectation.clause == "E2.weight":
        return _weight_checks(scenario, dims, phase, expectation, records)
    if expectation.clause == "E3.steady":
        return _steady_checks(scenario, dims, phase, expectation, records)
    if expectation.clause.startswith("IO."):
        return _io_checks(scenario, dims, phase, expectation, records)
    if expectation.clause == "woken":
        return [_woken_check(phase, expectation, records)]
    spans = [("whole", edges[0], edges[-1])]
    if len(edges) > 2:
        spans += [(f"window {k}", a, b) for k, (a, b) in enumerate(zip(edges, edges[1:]), 1)]
    checks: list[Check] = []
    for where, one, two in spans:
        if expectation.clause.startswith("E1."):
            checks += _cap_checks(scenario, dims, phase, expectation, where, one, two)
        elif expectation.clause.startswith("E4."):
            checks += _even_checks(scenario, dims, phase, expectation, where, one, two)
        else:
            checks.append(_share_check(phase, expectation, where, one, two))
    if expectation.clause == "E1.cap":
        checks += _stats_checks(scenario, dims, phase, expectation, records)
    return checks


def _woken_check(phase: Phase, expectation: Expectation, records: Records) -> Check:
    """How late a domain ran when it woke, by its own clock, in the mean of the phase."""
    (name,) = expectation.domains
    ends = [
        records.samples[label].domains[name].guest for label in (phase.labels[0], phase.labels[-1])
    ]
    wakes = sum(two.wakes - one.wakes for one, two in zip(*ends))
    late_ns = sum(two.late_ns - one.late_ns for one, two in zip(*ends))
    mean_ms = late_ns / wakes / _MS if wakes else float("inf")
    most_ms = (expectation.most_ns or 0) / _MS
    finding = Finding(
        "late when it wakes, in the mean",
        f"{most_ms:g} ms at most",
        f"{mean_ms:.3f} ms of {wakes} times",
        mean_ms <= most_ms,
        "a member that wakes does not wait for one that spins",
    )
    return _found("woken", phase, name, finding)


def _device_checks(scenario: Scenario, phase: Phase, records: Records) -> list[Check]:
    """No driver ever sees a wrong answer, or a block that is not what it wrote."""
    first, last = _ends(scenario, phase, records)
    drivers = [d.name for d in scenario.domains if d.workload == DRIVER]
    found = [(name, devices.never(first, last, name)) for name in drivers]
    return [_found(WITNESS, phase, name, finding) for name, finding in found if finding]


def _ends(scenario: Scenario, phase: Phase, records: Records) -> tuple[Sample, Sample]:
    """From the end of the phase before to the end of this one: operations and all."""
    place = scenario.phases.index(phase)
    first = scenario.phases[place - 1].labels[-1] if place else "start"
    return records.samples[first], records.samples[phase.labels[-1]]


def _io_checks(
    scenario: Scenario, dims: Dims, phase: Phase, expectation: Expectation, records: Records
) -> list[Check]:
    (name,) = expectation.domains
    one, two = records.samples[phase.labels[0]], records.samples[phase.labels[-1]]
    clause = expectation.clause
    if clause == "IO.intact":
        finding = devices.intact(*_ends(scenario, phase, records), name)
    elif clause == "IO.refused":
        finding = devices.refused(*_ends(scenario, phase, records), name)
    elif clause == "IO.served":
        finding = devices.served(one, two, name, expectation.least or 1)
    elif clause == "IO.stopped":
        finding = devices.stopped(one, two, name)
    else:
        other = next(p for p in scenario.phases if p.name == expectation.like)
        like = records.samples[other.labels[0]], records.samples[other.labels[-1]]
        allowed_ns = devices.LOCAL_INSTRUCTIONS * (1 << dims.shift) * dims.pcpus
        finding = devices.local((one, two), like, name, allowed_ns)
    return [_found(clause, phase, name, finding)]


def _found(clause: str, phase: Phase, name: str, finding: Finding) -> Check:
    return Check(
        clause=clause,
        phase=phase.name,
        where=f"{name}: {finding.where}",
        domains=(name,),
        expected=finding.expected,
        measured=finding.measured,
        tolerance=0,
        unit="",
        reason=finding.reason,
        verdict=Verdict.PASS if finding.good else Verdict.FAIL,
    )


def _cap_checks(
    scenario: Scenario,
    dims: Dims,
    phase: Phase,
    expectation: Expectation,
    where: str,
    one: Sample,
    two: Sample,
) -> list[Check]:
    """By the domains' CPU time, and by the group's own account of it where there is a group."""
    master = phase.state.group_of(expectation.domains[0])[0]
    cap = phase.state.caps[master]
    at_once = _at_once(scenario, dims, phase, expectation.domains)
    running = phase.state.running & set(expectation.domains)
    steady = all(d.workload in STEADY for d in scenario.domains if d.name in running)
    others = [name for name in phase.state.running - running if name != DOM0]
    outside = _at_once(scenario, dims, phase, others)
    waits = outside > 0 and at_once + outside > dims.pcpus
    checks = []

    def check(place: str, used: float, window_ns: int, reading: float) -> None:
        aim: float | None = None
        if expectation.tolerance is not None:
            tolerance, reason = expectation.tolerance, str(expectation.reason)
        else:
            tolerance, reason = cap_contract(cap, window_ns, at_once)
            if steady and (found := cap_aim(cap, window_ns, at_once)) is not None:
                aim = found[0] + reading
                allowed, why = found
                if waits:
                    turn_ns = TURN_NS[dims.scheduler]
                    allowed += cap * turn_ns / window_ns
                    why += f"; + a turn of {turn_ns / _MS:g} ms to wait for a pCPU"
                if AIMS_JUDGED and allowed < tolerance:
                    tolerance, reason = allowed, why
            tolerance += reading
            if reading:
                reason += f"; + {reading:.4f} for the samples' span"
        below = math.inf if expectation.clause == "E1.upper" else tolerance
        above = math.inf if expectation.clause == "E1.lower" else tolerance
        checks.append(
            Check(
                clause=expectation.clause,
                phase=phase.name,
                where=place,
                domains=expectation.domains,
                expected=float(cap),
                measured=used,
                tolerance=tolerance,
                unit="% of a pCPU",
                reason=reason,
                verdict=_within(used - cap, below, above),
                span_ns=window_ns,
                aim=aim,
            )
        )

    window_ns = two.t_ns - one.t_ns
    reading = 100.0 * (one.span_ns + two.span_ns) * at_once / window_ns
    check(where, share(one, two, expectation.domains), window_ns, reading)
    own = _own_use(one, two, master)
    if own is not None:
        # Read at one instant: nothing to add for the samples' span.
        check(f"{where}, {OWN}", 100.0 * own[0] / own[1], own[1], 0.0)
    return checks


def _witness_checks(
    scenario: Scenario, dims: Dims, phase: Phase, records: Records, real: bool
) -> list[Check]:
    """What each guest saw of its CPU time by its own clock, against what the hypervisor charged.

    It cannot have run longer than it was charged for, but for preemptions that are too short to be
    seen.  It may have run less, by what Xen spends in switching, which it charges to the vCPU; and
    in real time by what the host takes, which is charged, too, and known to nobody here.
    """
    checks = []
    ends = [records.samples[label] for label in (phase.labels[0], phase.labels[-1])]
    parts = _parts(scenario, phase)
    for domain in scenario.domains:
        uses = [end.domains[domain.name] for end in ends]
        before, after = uses
        if before.cpu_ns is None or after.cpu_ns is None or not (before.guest and after.guest):
            continue
        pairs = list(zip(before.guest, after.guest))
        charged_ns = after.cpu_ns - before.cpu_ns
        ran_ns = sum(two.ran_ns - one.ran_ns for one, two in pairs)
        span_ns = ends[1].t_ns - ends[0].t_ns
        threshold_ns = {**looks(dims, scenario.vcpus), **domain.parameters}["gap_threshold_ns"]
        unseen_ns = threshold_ns * (2 + span_ns / UNSEEN_EVERY_NS)
        kind = domain.kind or dims.kind
        switch_ns = SWITCH_INSTRUCTIONS[kind] * (1 << dims.shift) * dims.pcpus
        piece_ns = _overlooked(parts, phase, domain, threshold_ns, switch_ns)
        unseen_ns += piece_ns * len(pairs) * span_ns / REFILL_NS
        slices = sum(two.slices - one.slices for one, two in pairs)
        # A refill's dispatch may be too short for a look at the clock; 2: another pCPU's budget.
        refills = math.ceil(2 * len(pairs) * span_ns / REFILL_NS)
        waits = domain.workload not in BUSY
        each = WAIT_INSTRUCTIONS[kind] if waits else SWITCH_INSTRUCTIONS[kind]
        if domain.workload == STUB:
            each = DEVICE_INSTRUCTIONS
        instructions = slices * each + refills * SWITCH_INSTRUCTIONS[kind]
        switching_ns = float(instructions * (1 << dims.shift) * dims.pcpus)
        # A part below the threshold may be over, all of it, while the other pCPUs have their turns.
        part_ns = parts.get(domain.name, 0.0)
        if part_ns < threshold_ns:
            switching_ns += part_ns * len(pairs) * span_ns / REFILL_NS
        less = (
            f"{slices} timeslices of {each} instructions of Xen's and {refills} refills' of "
            f"{SWITCH_INSTRUCTIONS[kind]} less"
        )
        if real:
            switching_ns, less = float(charged_ns), "any less that the host took"
        good = -unseen_ns <= charged_ns - ran_ns <= switching_ns
        checks.append(
            Check(
                clause=WITNESS,
                phase=phase.name,
                where="whole, by the guest's own clock",
                domains=(domain.name,),
                expected=100.0 * charged_ns / span_ns,
                measured=100.0 * ran_ns / span_ns,
                tolerance=100.0 * unseen_ns / span_ns,
                unit="% of a pCPU",
                reason=f"{less}, or {unseen_ns / _MS:.3g} ms in gaps too short to be seen more",
                verdict=Verdict.PASS if good else Verdict.FAIL,
                span_ns=span_ns,
                below=100.0 * switching_ns / span_ns,
            )
        )
    return checks


def _parts(scenario: Scenario, phase: Phase) -> dict[str, float]:
    """ns of a refill that each unit of a domain gets, of those that run: of a cap, even parts."""
    state = phase.state
    groups: dict[str, list[Domain]] = {}
    for one in scenario.domains:
        if one.name in state.running:
            groups.setdefault(state.group_of(one.name)[0], []).append(one)
    return {
        one.name: state.caps[master] / 100 * REFILL_NS / len(group) / state.units(one)
        for master, group in groups.items()
        for one in group
        if state.caps[master]
    }


def _overlooked(
    parts: Mapping[str, float], phase: Phase, domain: Domain, threshold_ns: float, switch_ns: float
) -> float:
    """ns of each refill that a vCPU of a domain may lose to another's and overlook.

    A unit that takes its part at once, and a part below the threshold, leaves a gap that the vCPU
    beneath does not see: that part, and a switch of Xen's there and back, half of each charged to
    it.  In its own group that can happen to one that has a part of more than a quantum, or begins
    with it when it wakes.
    """
    whole = domain.workload in BUSY and parts.get(domain.name, 0.0) <= QUANTUM_NS
    mine = phase.state.group_of(domain.name) if whole else (domain.name,)
    others = [part for name, part in parts.items() if name not in mine]
    largest = max((part for part in others if part < threshold_ns), default=None)
    return 0.0 if largest is None else min(threshold_ns, largest + switch_ns)


def _stats_checks(
    scenario: Scenario, dims: Dims, phase: Phase, expectation: Expectation, records: Records
) -> list[Check]:
    """What a group that wanted all of its cap says of itself, from end to end of the phase.

    None where it is not the same group at both ends.
    """
    master = phase.state.group_of(expectation.domains[0])[0]
    ends = [records.samples[label] for label in (phase.labels[0], phase.labels[-1])]
    found = [next((g for g in end.groups if g.master == master), None) for end in ends]
    one, two = found
    if one is None or two is None or two.usage_ns < one.usage_ns:
        return []
    if [d.name for d in one.domains] != [d.name for d in two.domains]:
        return []
    pairs = list(zip(one.domains, two.domains))
    span_ns = two.now_ns - one.now_ns
    refills = span_ns / REFILL_NS
    # A cap that all its units together cannot reach throttles nobody.
    scarce = two.cap_percent < 100 * _at_once(scenario, dims, phase, expectation.domains)
    running = [pair for pair in pairs if pair[0].name in phase.state.running]
    busy = {d.name for d in scenario.domains if d.workload in BUSY}
    periods = two.nr_periods - one.nr_periods
    throttled = two.nr_throttled - one.nr_throttled
    used = two.usage_ns - one.usage_ns
    parts = sum(after.usage_ns - before.usage_ns for before, after in pairs)
    waited = two.throttled_ns - one.throttled_ns
    kept = [(f"its domains' usage_ns add up to the group's {used} ns", parts == used, parts)]
    kept.append((f"nr_periods moves by {refills:.1f} +- 1", abs(periods - refills) <= 1, periods))
    if scarce:
        good = 0 < throttled <= periods + 1
        kept.append((f"nr_throttled moves by 1 to {periods + 1}", good, throttled))
        kept.append((f"throttled_ns moves, by {span_ns} at most", 0 < waited <= span_ns, waited))
    for before, after in running:
        mine = after.nr_periods - before.nr_periods
        if after.name in busy:
            kept.append((f"{after.name}: as many periods as the group", mine == periods, mine))
        else:
            kept.append((f"{after.name}: no more periods than the group", mine <= periods, mine))
        mine = after.throttled_ns - before.throttled_ns
        kept.append((f"{after.name}: no more throttled_ns than the group", mine <= waited, mine))
        mine = after.nr_throttled - before.nr_throttled
        kept.append((f"{after.name}: throttled no oftener than the group", mine <= throttled, mine))
    return [
        Check(
            clause="stats",
            phase=phase.name,
            where=what,
            domains=expectation.domains,
            expected="so",
            measured=str(measured),
            tolerance=0,
            unit="",
            reason="what the contract says can be asked",
            verdict=Verdict.PASS if good else Verdict.FAIL,
        )
        for what, good, measured in kept
    ]


def _within(error: float, below: float, above: float) -> Verdict:
    return Verdict.PASS if -below <= error <= above else Verdict.FAIL


def _own_use(one: Sample, two: Sample, master: str) -> tuple[int, int] | None:
    """What a group says it has used between two samples, and in which time; both ns.

    None where it is not there at both, or is not the same group any more.
    """
    before = next((g for g in one.groups if g.master == master), None)
    after = next((g for g in two.groups if g.master == master), None)
    if before is None or after is None or after.usage_ns < before.usage_ns:
        return None
    return after.usage_ns - before.usage_ns, after.now_ns - before.now_ns


def one_runqueue(dims: Dims) -> bool:
    """Whether weights are compared across all pCPUs: contract E2 is judged there."""
    if dims.scheduler == "credit":
        return dims.pcpus == 1
    return dims.pcpus == 1 or dims.topology == "cores"


def due(scenario: Scenario, dims: Dims, phase: Phase, master: str) -> float | None:
    """What a master's weight is worth beside all that run, in percent of one pCPU.

    All vCPUs of all domains are taken to be busy.  None where something else than weight limits
    any of them (a cap, an affinity), or another group does.
    """
    state = phase.state
    others = [d for d in scenario.domains if d.name not in state.group_of(master)]
    others = [d for d in others if d.name in state.running]
    rivals = [next(d for d in scenario.domains if d.name == master), *others]
    if any(state.caps[d.name] or state.affinity.get(d.name) is not None for d in rivals):
        return None
    if any(len(state.group_of(d.name)) > 1 for d in others):
        return None
    weights = [float(state.weights[d.name] * state.units(d)) for d in rivals]
    limits = [100.0 * min(state.units(d), dims.pcpus) for d in rivals]
    return max_min(100.0 * dims.pcpus, limits, weights)[0]


def _weight_checks(
    scenario: Scenario, dims: Dims, phase: Phase, expectation: Expectation, records: Records
) -> list[Check]:
    """The group's share against what its master had alone, each over its whole phase.

    None where the contract does not judge it: on more than one runqueue.

    Stock credit gives a lone domain up to 4 % less or more than it is due (a timeslice of 30 ms,
    credit bounded by one of them, either way).  A group, whose units have shorter timeslices, may
    be nearer to what is due than its master was: on credit, anything between the two will do.
    """
    if not one_runqueue(dims):
        return []
    master = phase.state.group_of(expectation.domains[0])[0]
    like = next(p for p in scenario.phases if p.name == expectation.like)
    ends = [(records.samples[p.labels[0]], records.samples[p.labels[-1]]) for p in (phase, like)]
    measured = share(*ends[0], expectation.domains)
    expected = share(*ends[1], (master,))
    reference = expected
    right = due(scenario, dims, phase, master) if dims.scheduler == "credit" else None
    if right is not None:
        expected = min(max(measured, min(reference, right)), max(reference, right))
    if expectation.tolerance is not None:
        tolerance, reason = expectation.tolerance, str(expectation.reason)
    else:
        turn_ns = TURN_NS[dims.scheduler]
        turns = sum(100.0 * turn_ns / (two.t_ns - one.t_ns) for one, two in ends)
        tolerance = max(WEIGHT * reference, turns)
        reason = (
            f"E2: the larger of {WEIGHT:.0%} of {master}'s share in {like.name}, {reference:.3f}, "
            f"and a turn of {turn_ns / _MS:g} ms in either phase"
        )
        if right is not None:
            reason += f"; {right:.3f} are due"
    return [
        Check(
            clause="E2.weight",
            phase=phase.name,
            where="whole",
            domains=expectation.domains,
            expected=expected,
            measured=measured,
            tolerance=tolerance,
            unit="% of a pCPU",
            reason=reason,
            verdict=_within(measured - expected, tolerance, tolerance),
            span_ns=ends[0][1].t_ns - ends[0][0].t_ns,
        )
    ]


def _steady_checks(
    scenario: Scenario, dims: Dims, phase: Phase, expectation: Expectation, records: Records
) -> list[Check]:
    """From the end of the phase before to the end of this one, operations and all: nothing minted.

    What its domains could use while they were outside the group, by the operations' own times, is
    allowed on top, and not to the group's own account.
    """
    names, master = expectation.domains, phase.state.group_of(expectation.domains[0])[0]
    place = scenario.phases.index(phase)
    first = scenario.phases[place - 1].labels[-1] if place else "start"
    one, two = records.samples[first], records.samples[phase.labels[-1]]
    vcpus = {DOM0: 1} | {d.name: d.vcpus for d in scenario.domains}
    mine = {id(step) for step in phase.steps}
    ops = {op.index: op for op in records.ops}
    least = most = outside = 0.0
    whole = True
    state, now_ns = phase.before, one.t_ns

    def pass_to(until_ns: int, states: Sequence[State]) -> None:
        nonlocal least, most, outside, whole, now_ns
        span_ns = max(0, until_ns - now_ns)
        caps = [s.caps[master] / 100 for s in states]
        least += min(caps) * span_ns
        most += max(caps) * span_ns
        out = [
            sum(vcpus[n] for n in names if n in s.running and s.master_of.get(n, n) != master)
            for s in states
        ]
        outside += min(max(out), dims.pcpus) * span_ns
        whole = whole and all(len(s.group_of(master)) > 1 for s in states)
        now_ns = max(now_ns, until_ns)

    for index, step in enumerate(scenario.steps()):
        if id(step) not in mine:
            continue
        after = state.after(step.op, step.arguments) if step.errno == "0" else state
        pass_to(ops[index].t_ns, [state])
        # While it is carried out, either may be in force.
        pass_to(ops[index].done_ns, [state, after])
        state = after
    pass_to(two.t_ns, [state])

    window_ns = two.t_ns - one.t_ns
    units = min(sum(vcpus[n] for n in names), dims.pcpus)
    top = max(s.caps[master] for s in (phase.before, phase.state))
    slack_ns = top / 100 * PERIOD_NS + QUANTUM_NS * units
    reading_ns = (one.span_ns + two.span_ns) * units
    reason = (
        f"E3: the caps in force, give or take {top} % x period {PERIOD_NS / _MS:g} ms + {units} x "
        f"quantum {QUANTUM_NS / _MS:g} ms"
    )
    used_ns = sum(_used(one, two, name) for name in names)
    allowed = f"; {outside / _MS:.3f} ms could run outside the group"
    found: list[tuple[str, int, float, float, str]] = [
        ("operations and all", used_ns, outside + reading_ns, reading_ns, reason + allowed)
    ]
    own = _own_use(one, two, master) if whole else None
    if own is not None:
        found.append((f"operations and all, {OWN}", own[0], 0.0, outside, reason))
    return [
        Check(
            clause="E3.steady",
            phase=phase.name,
            where=where,
            domains=names,
            expected=100.0 * (least + most) / 2 / window_ns,
            measured=100.0 * got / window_ns,
            tolerance=100.0 * ((most - least) / 2 + slack_ns + above) / window_ns,
            unit="% of a pCPU",
            reason=why,
            verdict=_within(
                got - (least + most) / 2,
                (most - least) / 2 + slack_ns + below,
                (most - least) / 2 + slack_ns + above,
            ),
            span_ns=window_ns,
            below=100.0 * ((most - least) / 2 + slack_ns + below) / window_ns,
        )
        for where, got, above, below, why in found
    ]


def _even_checks(
    scenario: Scenario,
    dims: Dims,
    phase: Phase,
    expectation: Expectation,
    where: str,
    one: Sample,
    two: Sample,
) -> list[Check]:
    names = expectation.domains
    total = share(one, two, names)
    limits = [100.0 * _at_once(scenario, dims, phase, (name,)) for name in names]
    window_ns = two.t_ns - one.t_ns
    # Over a window two domains can be apart by what one enforcement round gives: a period's budget,
    # a quantum; without a cap, by a turn.
    capped = phase.state.caps[phase.state.group_of(names[0])[0]] > 0
    round_ns = total / 100 * PERIOD_NS + QUANTUM_NS if capped else TURN_NS[dims.scheduler]
    checks = []
    weights = [float(phase.state.shares.get(name, DEFAULT_SHARE)) for name in names]
    for name, even in zip(names, max_min(total, limits, weights)):
        if expectation.tolerance is not None:
            tolerance, reason = expectation.tolerance, str(expectation.reason)
        else:
            tolerance = max(EVEN * even, 100.0 * round_ns / window_ns)
            reason = (
                f"E4: the larger of {EVEN:.0%} of its part and one round of "
                f"{round_ns / _MS:.3g} ms in {window_ns / 1e9:.4g} s"
            )
        measured = share(one, two, (name,))
        good = abs(measured - even) <= tolerance
        checks.append(
            Check(
                clause=expectation.clause,
                phase=phase.name,
                where=where,
                domains=(name,),
                expected=even,
                measured=measured,
                tolerance=tolerance,
                unit="% of a pCPU",
                reason=reason,
                verdict=Verdict.PASS if good else Verdict.FAIL,
                span_ns=window_ns,
            )
        )
    return checks


def _share_check(
    phase: Phase, expectation: Expectation, where: str, one: Sample, two: Sample
) -> Check:
    assert expectation.share is not None and expectation.tolerance is not None
    measured = share(one, two, expectation.domains)
    good = abs(measured - expectation.share) <= expectation.tolerance
    return Check(
        clause="share",
        phase=phase.name,
        where=where,
        domains=expectation.domains,
        expected=expectation.share,
        measured=measured,
        tolerance=expectation.tolerance,
        unit="% of a pCPU",
        reason=str(expectation.reason),
        verdict=Verdict.PASS if good else Verdict.FAIL,
        span_ns=two.t_ns - one.t_ns,
    )


def _at_once(scenario: Scenario, dims: Dims, phase: Phase, names: Sequence[str]) -> int:
    """How many vCPUs of ``names`` can run at once, by who runs, affinity and pCPUs."""
    domains: dict[str, Domain] = {d.name: d for d in scenario.domains}
    units = 0
    for name in names:
        if name not in phase.state.running:
            continue
        if name == DOM0:
            units += 1
            continue
        units += min(phase.state.units(domains[name]), phase.state.places(name, dims.pcpus))
    return min(units, dims.pcpus)


def _row(phase: Phase, names: Sequence[str], records: Records, verdict: Verdict | None) -> Row:
    """``names``: some domains, together; a part of a group has no cap of its own."""
    edges = [records.samples[label] for label in phase.labels]
    group = phase.state.group_of(names[0])
    cap = phase.state.caps[group[0]] if set(group) <= set(names) else 0
    total = share(edges[0], edges[-1], names)
    windows = tuple(share(a, b, names) for a, b in zip(edges, edges[1:]))
    parts = [share(edges[0], edges[-1], (name,)) for name in names]
    found = {name: devices.traffic(edges[0], edges[-1], name) for name in names}
    return Row(
        phase=phase.name,
        domains=tuple(names),
        cap_percent=cap,
        share=total,
        error=100.0 * (total - cap) / cap if cap else None,
        worst_window=max((100.0 * (w - cap) / cap for w in windows), key=abs) if cap else None,
        split=tuple(100.0 * part / total if total else 0.0 for part in parts),
        windows=windows,
        grouped=phase.grouped,
        verdict=verdict,
        traffic={n: t for n, t in found.items() if t is not None and t.requests},
    )


def _sentence(check: Check) -> str:
    if check.clause == "lab":
        return check.reason
    if isinstance(check.expected, str) or isinstance(check.measured, str):
        place = f"{check.phase}: {check.where}"
        return f"{place}: expected {check.expected}, got {check.measured}"
    return (
        f"{check.clause} in {check.phase}, {check.where}: {' + '.join(check.domains)} got "
        f"{check.measured:.3f} {check.unit}, expected {check.expected:.3f} "
        f"{_allowed(check)} ({check.reason})"
    )


def _allowed(check: Check) -> str:
    if check.below is None or check.below == check.tolerance:
        return f"+- {check.tolerance:.3f}"
    return f"+ {check.tolerance:.3f} - {check.below:.3f}"
