# SPDX-License-Identifier: GPL-2.0-only
"""What devices did between two samples, and what is expected of it; pure functions.

A device's driver counts what it asked for and what came of it, and keeps a histogram of how long
each request took.  Nothing here knows how a request travels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schedlab.records import Device, Sample

# Of the hypervisor's or dom0's, for each request of a device that has nothing to do with dom0; what
# would go through dom0 takes thousands.
LOCAL_INSTRUCTIONS = 100
# Counts that move only when something is wrong, whatever the scenario did to the device.
NEVER = ("corrupt", "wrong", "clock_wrong")
# Counts that move when a device was lost, or its model was.
LOSSES = ("lost", "unanswered")


@dataclass(frozen=True)
class Finding:
    """One thing expected of a device, and what was measured."""

    where: str
    expected: str
    measured: str
    good: bool
    reason: str


@dataclass(frozen=True)
class Traffic:
    """Requests for blocks of one driver in a stretch of time; latencies in ns.

    A latency is where its bucket ends: at most 1/16 more than it was.  None where there was none.
    """

    requests: int
    per_s: float
    median_ns: int | None
    p99_ns: int | None
    worst_ns: int | None
    wrong: int


def device_of(sample: Sample, name: str) -> Device | None:
    """The domain's device page at that sample; None while it has none."""
    use = sample.domains.get(name)
    return None if use is None else use.device


def _moved(one: Sample, two: Sample, name: str, counts: Sequence[str]) -> dict[str, int]:
    before, after = device_of(one, name), device_of(two, name)
    if after is None:
        return {}
    return {
        count: getattr(after, count) - (0 if before is None else getattr(before, count))
        for count in counts
    }


def between(
    before: Sequence[tuple[int, int]], after: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """What a histogram has more of, in order of its buckets."""
    had: Mapping[int, int] = dict(before)
    grown = [(end, count - had.get(end, 0)) for end, count in after]
    return sorted((end, count) for end, count in grown if count)


def percentile(histogram: Sequence[tuple[int, int]], part: float) -> int | None:
    """Where the bucket ends below whose end at least that part of all are; None of none."""
    total = sum(count for _, count in histogram)
    seen = 0
    for end, count in histogram:
        seen += count
        if seen >= part * total:
            return end
    return None


def traffic(one: Sample, two: Sample, name: str) -> Traffic | None:
    """What the driver's requests for blocks came to; None of a domain that has no device."""
    before, after = device_of(one, name), device_of(two, name)
    if after is None:
        return None
    grown = between(() if before is None else before.latency, after.latency)
    requests = sum(count for _, count in grown)
    return Traffic(
        requests=requests,
        per_s=requests * 1e9 / (two.t_ns - one.t_ns),
        median_ns=percentile(grown, 0.5),
        p99_ns=percentile(grown, 0.99),
        worst_ns=percentile(grown, 1.0),
        wrong=sum(_moved(one, two, name, (*NEVER, *LOSSES)).values()),
    )


def never(one: Sample, two: Sample, name: str) -> Finding | None:
    """What is expected of any driver: no block is corrupt, no answer wrong."""
    moved = _moved(one, two, name, NEVER)
    if not moved:
        return None
    return Finding(
        "no answer is wrong, no block corrupt",
        "0",
        _told(moved),
        not any(moved.values()),
        "every word of every block that is read is compared with what was written",
    )


def intact(one: Sample, two: Sample, name: str) -> Finding:
    """Nothing wrong, nothing lost, and blocks were read back, so that it would have shown."""
    moved = _moved(one, two, name, (*NEVER, *LOSSES, "written", "verified"))
    bad = any(moved[count] for count in (*NEVER, *LOSSES)) if moved else True
    return Finding(
        "blocks are written and read back, none lost",
        "written and verified move, nothing else",
        _told(moved) if moved else "no device",
        bool(moved) and not bad and moved["written"] > 0 and moved["verified"] > 0,
        "every word of every block that is read is compared with what was written",
    )


def served(one: Sample, two: Sample, name: str, least: int) -> Finding:
    """At least so many requests a second were answered."""
    before, after = device_of(one, name), device_of(two, name)
    answered = 0 if after is None else after.answered - (0 if before is None else before.answered)
    per_s = answered * 1e9 / (two.t_ns - one.t_ns)
    return Finding(
        "requests are answered",
        f"{least} a second or more",
        f"{per_s:.1f} a second",
        per_s >= least,
        "a starved device model is no silence",
    )


def stopped(one: Sample, two: Sample, name: str) -> Finding:
    """One request is in flight, at both ends, and none is answered."""
    ends = [device_of(end, name) for end in (one, two)]
    states = [
        "no device" if d is None else f"{d.started} begun, {d.answered} answered" for d in ends
    ]
    good = all(d is not None and d.started == d.answered + 1 for d in ends)
    return Finding(
        "one request is in flight, none is answered",
        "one more begun than answered, and the same later",
        "; ".join(states),
        good and states[0] == states[1],
        "a device model that is dead answers nothing, and Xen keeps the vCPU that waits",
    )


def refused(one: Sample, two: Sample, name: str) -> Finding:
    """Malformed requests came, and each was refused as it should be."""
    moved = _moved(one, two, name, (*NEVER, *LOSSES, "refused"))
    bad = any(moved[count] for count in (*NEVER, *LOSSES)) if moved else True
    return Finding(
        "malformed requests are refused",
        "refused moves, nothing else",
        _told(moved) if moved else "no device",
        bool(moved) and not bad and moved["refused"] > 0,
        "the driver knows what the device must answer to each",
    )


def local(
    here: tuple[Sample, Sample], like: tuple[Sample, Sample], name: str, allowed_ns: float
) -> Finding:
    """dom0 takes no longer than in a stretch without requests, for each of those that there are."""
    parts = []
    for one, two in (here, like):
        before, after = one.domains["dom0"].cpu_ns or 0, two.domains["dom0"].cpu_ns or 0
        parts.append((after - before) / (two.t_ns - one.t_ns))
    counts = []
    for one, two in (here, like):
        first, last = device_of(one, name), device_of(two, name)
        began = 0 if first is None else first.answered
        counts.append(0 if last is None else last.answered - began)
    requests, quiet = counts
    more_ns = (parts[0] - parts[1]) * (here[1].t_ns - here[0].t_ns)
    each = more_ns / requests if requests else float("inf")
    return Finding(
        "dom0's CPU time for a request",
        f"{allowed_ns:.0f} ns at most; no requests in the other phase",
        f"{each:.1f} ns in each of {requests}; {quiet} there",
        each <= allowed_ns and requests > 0 and quiet == 0,
        f"{LOCAL_INSTRUCTIONS} instructions; requests are the ioreq page's and its event channels'",
    )


def _told(moved: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in moved.items())
