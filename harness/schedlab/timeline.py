# SPDX-License-Identifier: GPL-2.0-only
"""Timelines: the hypervisor's own trace, decoded; checked against its accounting; and as a picture.

What is decoded (xen/include/public/trace.h, a word is 32 bits, little-endian):

    header: event (28 bits), data words (3), time-stamped (1)    [TSC, two words]    data
    switch_infprev   domain, unit, ns it ran                     who leaves the pCPU
    switch_infnext   domain, unit, …                             who comes
    wake             domain, unit
    scheddom_join, _leave, _throttle, _unthrottle    master, domain
    scheddom_dissolve                                master

Each switch has a pair of them.  How long one ran who goes is Xen's own figure: ``now`` less when it
came, the same ``now`` that its accounting uses.  So the sum of a domain's slices between two
samples is its ``cpu_ns``, and of a group's domains its ``usage_ns``: to the ns where none of them
runs while a sample is taken.  Where one does, it is open how much of that belongs to which side:
what it ran from LAG_NS before the sample to LAG_NS behind its span, at either edge: ``bound_ns()``.
The bound does not grow with the number of slices.
"""

from __future__ import annotations

import bisect
import itertools
import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from schedlab.oracle import Check, Judgement, Verdict
from schedlab.records import Records, Sample, Trace, TraceClock

_VERBOSE = 0x28000
WAKE, INFPREV, INFNEXT = _VERBOSE + 4, _VERBOSE + 14, _VERBOSE + 15
GROUP_EVENTS = {
    _VERBOSE + 18: "join",
    _VERBOSE + 19: "leave",
    _VERBOSE + 20: "dissolve",
    _VERBOSE + 21: "throttle",
    _VERBOSE + 22: "unthrottle",
}
IDLE = 0x7FFF
# How far the slices of a pCPU may be from where they were: the least, of all its switches, of the
# times from the instant that a record is about to its time stamp.  Measured: 20 us on one pCPU, 26
# us on four, at shift 5.
LAG_NS = 100_000
ROUNDING_NS = 2.0
# A time stamp can be late by as many turns of QEMU's as there are pCPUs (SLICE_US of qemu.py), no
# more.
GAP_NS = 4_000_000
_WORD = 32

# An instant, and how long the hypercall took that reads the accounting.
Edge = tuple[float, float]


class TraceError(Exception):
    """A trace that is not what Xen writes."""


@dataclass(frozen=True)
class Event:
    """One record."""

    pcpu: int
    tsc: int
    event: int
    data: tuple[int, ...]


@dataclass(frozen=True)
class Slice:
    """A unit on a pCPU, from begin to end (ns from t0).

    ``woken_ns``: when it was first woken after its slice before; None: it was not, but preempted.
    """

    pcpu: int
    domid: int
    unit: int
    begin_ns: float
    end_ns: float
    woken_ns: float | None = None

    @property
    def delay_ns(self) -> float | None:
        """From the wake-up to running."""
        return None if self.woken_ns is None else max(0.0, self.begin_ns - self.woken_ns)


@dataclass(frozen=True)
class GroupEvent:
    """What happened to a group."""

    t_ns: float
    what: str
    master: int
    domid: int | None


@dataclass(frozen=True)
class Timeline:
    """A whole trace, in order of time."""

    slices: tuple[Slice, ...]
    events: tuple[GroupEvent, ...]


def events(pcpu: int, raw: bytes) -> list[Event]:
    """Of one pCPU's buffer.  Raises TraceError."""
    found = []
    at = 0
    while at < len(raw):
        if len(raw) - at < 4:
            raise TraceError(f"pCPU {pcpu}: the trace ends inside a record")
        (head,) = struct.unpack_from("<I", raw, at)
        count, stamped = head >> 28 & 7, head >> 31
        length = 4 * (1 + 2 * stamped + count)
        if len(raw) - at < length:
            raise TraceError(f"pCPU {pcpu}: the trace ends inside a record")
        if not stamped:
            raise TraceError(f"pCPU {pcpu}: event {head & 0xFFFFFFF:#x} has no time stamp")
        (tsc,) = struct.unpack_from("<Q", raw, at + 4)
        data = struct.unpack_from(f"<{count}I", raw, at + 12)
        found.append(Event(pcpu, tsc, head & 0xFFFFFFF, data))
        at += length
    return found


class Clock:
    """From the TSC to ns after t0, by the two instants at which both were read."""

    def __init__(self, clocks: Sequence[TraceClock]) -> None:
        if len(clocks) != 2 or clocks[0].tsc >= clocks[1].tsc:
            raise TraceError("the trace's clock was not read at beginning and end")
        self._one = clocks[0]
        self._rate = (clocks[1].t_ns - clocks[0].t_ns) / (clocks[1].tsc - clocks[0].tsc)

    def ns(self, tsc: int) -> float:
        """ns after t0."""
        return self._one.t_ns + (tsc - self._one.tsc) * self._rate


@dataclass(frozen=True)
class _Switch:
    """One goes (``ran_ns``, how long it ran) and ``comes`` comes."""

    t_ns: float
    goes: tuple[int, int]
    ran_ns: int
    comes: tuple[int, int]


def decode(trace: Trace) -> Timeline:
    """Slices and events.  Raises TraceError."""
    clock = Clock(trace.clocks)
    slices: list[Slice] = []
    happened: list[GroupEvent] = []
    woken: dict[tuple[int, int], list[float]] = {}
    for pcpu, raw in sorted(trace.buffers.items()):
        found = events(pcpu, raw)
        slices += _slices(pcpu, _switches(pcpu, found, clock), trace.clocks[1].t_ns)
        for event in found:
            if event.event in GROUP_EVENTS:
                domid = event.data[1] if len(event.data) > 1 else None
                what = GROUP_EVENTS[event.event]
                happened.append(GroupEvent(clock.ns(event.tsc), what, event.data[0], domid))
            elif event.event == WAKE:
                woken.setdefault((event.data[0], event.data[1]), []).append(clock.ns(event.tsc))
    slices.sort(key=lambda s: (s.begin_ns, s.pcpu))
    happened.sort(key=lambda e: e.t_ns)
    return Timeline(tuple(_with_wakes(slices, woken)), tuple(happened))


def _with_wakes(
    slices: Iterable[Slice], woken: Mapping[tuple[int, int], list[float]]
) -> Iterator[Slice]:
    """Each slice with the first wake-up of its unit since that had run before."""
    ordered = {unit: sorted(times) for unit, times in woken.items()}
    last: dict[tuple[int, int], float] = {}
    for one in slices:
        unit = (one.domid, one.unit)
        times = ordered.get(unit, [])
        k = bisect.bisect_right(times, last.get(unit, -math.inf))
        last[unit] = one.end_ns
        # A time stamp is up to LAG_NS late.
        found = k < len(times) and times[k] <= one.begin_ns + LAG_NS
        yield replace(one, woken_ns=times[k]) if found else one


def _switches(pcpu: int, found: Sequence[Event], clock: Clock) -> list[_Switch]:
    """The pairs of records; each one who goes is the one who came."""
    switches: list[_Switch] = []
    went: Event | None = None
    for event in found:
        if event.event == INFPREV:
            went = event
        elif event.event == INFNEXT:
            if went is None:
                raise TraceError(f"pCPU {pcpu}: somebody comes where nobody went")
            goes, comes = (went.data[0], went.data[1]), (event.data[0], event.data[1])
            if switches and switches[-1].comes != goes:
                raise TraceError(f"pCPU {pcpu}: {switches[-1].comes} came, and {goes} goes")
            t_ns = clock.ns(went.tsc)
            ran = went.data[2]
            if switches:
                # The record has 32 bits of it.
                ran += round((t_ns - switches[-1].t_ns - ran) / 2**_WORD) * 2**_WORD
            switches.append(_Switch(t_ns, goes, ran, comes))
            went = None
    return switches


def _slices(pcpu: int, switches: Sequence[_Switch], end_ns: float) -> list[Slice]:
    """Slices that tile the pCPU, from the one that was on when tracing began to the one at its end.

    What one ran is the time from one switch to the next, by Xen's own instants; the time stamps
    come later than those by what varies.  So the switches are laid out by the former, as late as
    none is later than its time stamp.
    """
    if not switches:
        return []
    laid = list(itertools.accumulate((s.ran_ns for s in switches[1:]), initial=switches[0].t_ns))
    late = max(at - switch.t_ns for at, switch in zip(laid, switches))
    laid = [at - late for at in laid]
    for at, switch in zip(laid, switches):
        if switch.t_ns - at > GAP_NS:
            raise TraceError(
                f"pCPU {pcpu}: {(switch.t_ns - at) / 1e6:.3f} ms before {switch.t_ns / 1e9:.6f} s "
                "are nobody's: are records missing?"
            )
    first_one = Slice(pcpu, *switches[0].goes, laid[0] - switches[0].ran_ns, laid[0])
    return [
        first_one,
        *(
            Slice(pcpu, *one.comes, begin, end)
            for one, begin, end in zip(switches, laid, [*laid[1:], max(laid[-1], end_ns)])
        ),
    ]


def ran_ns(slices: Iterable[Slice], domid: int, from_ns: float, to_ns: float) -> float:
    """What a domain ran between two instants: its slices, clipped."""
    return sum(
        max(0.0, min(s.end_ns, to_ns) - max(s.begin_ns, from_ns))
        for s in slices
        if s.domid == domid
    )


def bound_ns(slices: Sequence[Slice], domids: Iterable[int], edges: Iterable[Edge]) -> float:
    """How far the sum of the slices may be from the accounting (see the module's page)."""
    inside = sum(
        ran_ns(slices, domid, edge[0] - LAG_NS, edge[0] + edge[1] + LAG_NS)
        for edge in edges
        for domid in domids
    )
    return ROUNDING_NS + inside


@dataclass(frozen=True)
class Sum:
    """Slices against accounting, of a domain or a group between two samples."""

    name: str
    what: str  # cpu_ns or usage_ns
    label: str
    slices_ns: float
    accounted_ns: int
    bound_ns: float

    @property
    def excess_ns(self) -> float:
        """How much of the bound is used up."""
        return abs(self.slices_ns - self.accounted_ns) - self.bound_ns

    @property
    def holds(self) -> bool:
        """Whether they agree within the bound."""
        return self.excess_ns <= 0


def sums(found: Timeline, records: Records) -> list[Sum]:
    """Each domain's cpu_ns, and each group's usage_ns, between each two samples of a phase."""
    domids = {"dom0": 0} | {c.name: c.domid for c in records.created}
    phases: dict[str, list[Sample]] = {}
    for sample in records.samples.values():
        phases.setdefault(sample.label.rpartition("/")[0], []).append(sample)
    checked: list[Sum] = []
    # Groups are asked after the domains, and tell their own instant, by Xen's clock.
    asked = min(
        (float(g.now_ns - s.t_ns) for s in records.samples.values() for g in s.groups), default=0.0
    )
    for phase, samples in phases.items():
        for one, two in zip(samples, samples[1:]):

            def add(
                name: str,
                what: str,
                of: Iterable[str],
                accounted: int,
                edges: tuple[Edge, Edge],
                label: str = two.label,
            ) -> None:
                ids = [domids[n] for n in of]
                near = [s for s in found.slices if s.domid in ids]
                ran = sum(ran_ns(near, i, edges[0][0], edges[1][0]) for i in ids)
                bound = bound_ns(near, ids, edges)
                checked.append(Sum(name, what, label, ran, accounted, bound))

            for name in domids:
                if name not in one.domains or name not in two.domains:
                    continue
                before, after = (s.domains[name].cpu_ns for s in (one, two))
                if before is not None and after is not None:
                    edges: tuple[Edge, Edge] = ((one.t_ns, one.span_ns), (two.t_ns, two.span_ns))
                    add(name, "cpu_ns", [name], after - before, edges)
            if not phase:
                continue
            earlier = {g.master: g for g in one.groups}
            for group in two.groups:
                if group.master not in earlier:
                    continue
                names = [d.name for d in group.domains]
                before_it = earlier[group.master]
                if names != [d.name for d in before_it.domains]:
                    continue
                # As long as the sample's own hypercall, at most.
                edges = (
                    (before_it.now_ns - asked, one.span_ns),
                    (group.now_ns - asked, two.span_ns),
                )
                used = group.usage_ns - before_it.usage_ns
                add(group.master, "usage_ns", names, used, edges)
    return checked


def judged(judgement: Judgement, records: Records) -> tuple[Judgement, Timeline | None]:
    """The judgement, and whether the trace agrees with the accounting; ERROR where it does not.

    One check for each domain and group: its worst window.
    """
    if records.trace is None:
        return judgement, None
    try:
        found = decode(records.trace)
        checked = sums(found, records)
    except (TraceError, IndexError) as error:
        reason = f"the trace cannot be read: {error}"
        return replace(judgement, verdict=Verdict.ERROR, reason=reason), None
    worst: dict[tuple[str, str], Sum] = {}
    for one in checked:
        key = (one.name, one.what)
        before = worst.get(key)
        if before is None or one.excess_ns > before.excess_ns:
            worst[key] = one
    checks = [
        Check(
            clause="trace",
            phase=one.label.rpartition("/")[0],
            where=f"slices and {one.what}, up to {one.label}",
            domains=(one.name,),
            expected=one.accounted_ns / 1e6,
            measured=one.slices_ns / 1e6,
            tolerance=one.bound_ns / 1e6,
            unit="ms",
            reason="the sum of the slices in the trace is what was accounted, but for the edges",
            verdict=Verdict.PASS if one.holds else Verdict.ERROR,
        )
        for one in worst.values()
    ]
    broken = next((c for c in checks if c.verdict != Verdict.PASS), None)
    if broken is not None and judgement.verdict < Verdict.ERROR:
        reason = f"trace and accounting differ: {broken.domains[0]}, {broken.where}: "
        reason += f"{broken.measured} of {broken.expected} ms"
        judgement = replace(judgement, verdict=Verdict.ERROR, reason=reason)
    return replace(judgement, checks=(*judgement.checks, *checks)), found


def chrome_trace(found: Timeline, records: Records) -> dict[str, Any]:
    """For Perfetto: a process of the pCPUs, one of the domains, one of the groups.

    https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU describes the
    form; times are us.
    """
    names = {0: "dom0"} | {c.domid: c.name for c in records.created}

    def name(domid: int) -> str:
        return names.get(domid, f"d{domid}")

    out: list[dict[str, Any]] = []
    for pid, what in ((1, "pCPUs"), (2, "domains"), (3, "groups")):
        out.append({"ph": "M", "pid": pid, "name": "process_name", "args": {"name": what}})
        sort = {"ph": "M", "pid": pid, "name": "process_sort_index"}
        out.append({**sort, "args": {"sort_index": pid}})
    tracks = {
        **{(1, p): f"pCPU {p}" for p in sorted({s.pcpu for s in found.slices})},
        **{
            (2, d * 64 + u): f"{name(d)} v{u}"
            for d, u in sorted({(s.domid, s.unit) for s in found.slices if s.domid != IDLE})
        },
        **{(3, m): f"group of {name(m)}" for m in sorted({e.master for e in found.events})},
    }
    for (pid, tid), text in tracks.items():
        thread = {"ph": "M", "pid": pid, "tid": tid, "name": "thread_name"}
        out.append({**thread, "args": {"name": text}})
    for s in found.slices:
        if s.domid == IDLE:
            continue
        span = {"ph": "X", "ts": s.begin_ns / 1e3, "dur": (s.end_ns - s.begin_ns) / 1e3}
        delay = {} if s.delay_ns is None else {"us_since_woken": s.delay_ns / 1e3}
        arguments: dict[str, float] = {"pcpu": s.pcpu, **delay}
        text = name(s.domid)
        out.append({**span, "pid": 1, "tid": s.pcpu, "name": text, "args": arguments})
        tid = s.domid * 64 + s.unit
        out.append({**span, "pid": 2, "tid": tid, "name": text, "args": arguments})
    out += _group_events(found, records, name)
    return {"displayTimeUnit": "ms", "traceEvents": out}


def _group_events(found: Timeline, records: Records, name: Any) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for begin, end, master in throttled(found):
        span = {"ph": "X", "ts": begin / 1e3, "dur": (end - begin) / 1e3}
        out.append({**span, "pid": 3, "tid": master, "name": "throttled", "args": {}})
    for e in found.events:
        if e.what in ("join", "leave", "dissolve"):
            text = e.what + (f" {name(e.domid)}" if e.domid is not None else "")
            instant = {"ph": "i", "s": "p", "ts": e.t_ns / 1e3, "pid": 3, "tid": e.master}
            out.append({**instant, "name": text})
    for sample in records.samples.values():
        for group in sample.groups:
            caps = {"cap_percent": group.cap_percent}
            counter = {"ph": "C", "pid": 3, "ts": sample.t_ns / 1e3}
            out.append({**counter, "name": f"cap of {group.master}", "args": caps})
    for master in sorted({e.master for e in found.events}):
        for t_ns, spent in budget(found, master):
            counter = {"ph": "C", "pid": 3, "ts": t_ns / 1e3}
            text = f"ran in the last 10 ms, group of {name(master)}"
            out.append({**counter, "name": text, "args": {"ms": spent / 1e6}})
    return out


def throttled(found: Timeline) -> list[tuple[float, float, int]]:
    """(from, to, master): from the first of a group's units that is parked, until none is."""
    since: dict[int, float] = {}
    spans = []
    for e in found.events:
        if e.what == "throttle":
            since.setdefault(e.master, e.t_ns)
        elif e.what == "unthrottle" and e.master in since:
            spans.append((since.pop(e.master), e.t_ns, e.master))
    return spans


def members(found: Timeline, master: int) -> list[tuple[float, frozenset[int]]]:
    """(since when, the group's domains), each time that they change; empty: no group."""
    now: frozenset[int] = frozenset()
    out = []
    for e in found.events:
        if e.master != master:
            continue
        if e.what == "join" and e.domid is not None:
            now = now | {master, e.domid}
        elif e.what == "leave" and e.domid is not None:
            now = now - {e.domid}
        elif e.what != "dissolve":
            continue
        if e.what == "dissolve" or now == {master}:
            now = frozenset()
        out.append((e.t_ns, now))
    return out


def budget(found: Timeline, master: int, step_ns: int = 10_000_000) -> list[tuple[float, float]]:
    """(instant, ns that the group's domains ran in the step before it), from refill to refill."""
    changes = members(found, master)
    if not changes:
        return []
    end_ns = max(s.end_ns for s in found.slices)
    # It is refilled when it is unthrottled.
    refills = (e.t_ns for e in found.events if (e.what, e.master) == ("unthrottle", master))
    phase_ns = next(refills, 0.0) % step_ns
    spans = [
        (begin, after[0], who)
        for (begin, who), after in zip(changes, [*changes[1:], (end_ns, frozenset())])
        if who
    ]
    spent: dict[int, float] = {}
    for s in found.slices:
        for begin, end, who in spans:
            if s.domid not in who or s.end_ns <= begin or s.begin_ns >= end:
                continue
            at, stop = max(s.begin_ns, begin), min(s.end_ns, end)
            # Counted on, not computed anew: what is rounded may be a step's end and still in it.
            k = int((at - phase_ns) // step_ns)
            while at < stop:
                upto = max(at, min(stop, (k + 1) * step_ns + phase_ns))
                spent[k] = spent.get(k, 0.0) + upto - at
                at, k = upto, k + 1
    out = []
    for begin, end, _ in spans:
        steps = (int((t - phase_ns) // step_ns) for t in (begin, end))
        for k in range(next(steps), next(steps) + 1):
            out.append(((k + 1) * step_ns + phase_ns, spent.get(k, 0.0)))
    return sorted(dict(out).items())


def delays(slices: Iterable[Slice], domid: int, from_ns: float, to_ns: float) -> list[float]:
    """Of the domain's slices that begin between two instants: from wake-up to running, in us."""
    return [
        s.delay_ns / 1e3
        for s in slices
        if s.domid == domid and from_ns <= s.begin_ns < to_ns and s.delay_ns is not None
    ]
