# SPDX-License-Identifier: GPL-2.0-only
"""Timelines: decoding, slices that tile, sums against the accounting, Perfetto, pictures."""

from __future__ import annotations

import json
import struct
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from typing import Any

import pytest
from schedlab import oracle, records, timeline
from schedlab.page import timeline_plot
from schedlab.records import Trace, TraceClock
from schedlab.timeline import IDLE, TraceError

MS = 1_000_000
BASE = 5_000_000_000
# Two clocks, 40 ms apart: a TSC of 1 GHz.
CLOCKS = (TraceClock(0, BASE), TraceClock(40 * MS, BASE + 40 * MS))


def word(event: int, t_ns: int, *data: int) -> bytes:
    """A record with its time stamp."""
    head = event | len(data) << 28 | 1 << 31
    return struct.pack(f"<IQ{len(data)}I", head, BASE + t_ns, *data)


def switch(t_ns: int, goes: int, ran_ns: int, comes: int, lag: int = 0) -> bytes:
    """The two records of a switch at t_ns, which are written ``lag`` after it."""
    return word(timeline.INFPREV, t_ns + lag, goes, 0, ran_ns & 0xFFFFFFFF) + word(
        timeline.INFNEXT, t_ns + lag + 500, comes, 0, 0, MS
    )


def shared(lags: tuple[int, ...] = (7000, 20_000, 9000)) -> bytes:
    """Master (1) and second (2), half a ms each, every 10 ms; idle between."""
    raw = word(0x28012, 2000, 1, 1) + word(0x28012, 2100, 1, 2)
    for k in range(4):
        at = k * 10 * MS + 5 * MS
        raw += word(0x28016, at - 1000, 1, 1)
        # The master is woken once, and again where it has been already; the second never.
        raw += word(timeline.WAKE, at - 3000, 1, 0) + word(timeline.WAKE, at - 900, 1, 0)
        raw += switch(at, IDLE, 9 * MS if k else 5 * MS, 1, lags[0])
        raw += switch(at + MS // 2, 1, MS // 2, 2, lags[1])
        raw += switch(at + MS, 2, MS // 2, IDLE, lags[2])
        raw += word(0x28015, at + MS, 1, 2)
    return raw


def found(raw: bytes | None = None) -> timeline.Timeline:
    """The decoded trace of one pCPU."""
    return timeline.decode(Trace(CLOCKS, {0: shared() if raw is None else raw}))


def a_run(used_ns: int = 2 * MS, usage_ns: int = 4 * MS) -> records.Records:
    """Samples at 0.5 and 38 ms: nobody runs at either."""
    counts = {"nr_periods": 0, "nr_throttled": 0, "throttled_ns": 0}
    lines: list[dict[str, Any]] = [
        {
            **{"r": "domain", "name": name, "domid": domid, "image": "burner-pv", "vcpus": 1},
            **{"cap_percent": 10 if domid == 1 else 0, "weight": 256},
        }
        for name, domid in (("master", 1), ("second", 2))
    ]
    for k, (t_ns, part) in enumerate(((MS // 2, 0), (38 * MS, 1))):
        uses = [
            {"name": n, "domid": d, "cpu_ns": c, "state": "running", "guest": []}
            for n, d, c in (
                ("dom0", 0, 0),
                ("master", 1, used_ns * part),
                ("second", 2, 2 * MS * part),
            )
        ]
        parts = [
            {"name": n, "domid": d, "weight": 0, "usage_ns": 0, **counts}
            for n, d in (("master", 1), ("second", 2))
        ]
        group = {
            **{"master": "master", "now_ns": BASE + t_ns, "cap_percent": 10, "weight": 256},
            **{"usage_ns": usage_ns * part, **counts, "domains": parts},
        }
        sample = {"r": "sample", "i": k, "label": f"joined/{k}", "t_ns": t_ns, "span_ns": 1000}
        sample["due_ns"] = t_ns
        lines.append({**sample, "domains": uses, "groups": [group]})
    parsed = records.parse(json.dumps(line) for line in lines)
    return replace(parsed, trace=Trace(CLOCKS, {0: shared()}))


def test_slices_tile_the_pcpu() -> None:
    """Each begins where the one before ends, whatever the records' lags; lengths are Xen's own."""
    slices = found().slices
    assert len(slices) == 13
    for one, two in zip(slices, slices[1:]):
        assert one.end_ns == pytest.approx(two.begin_ns)
    busy = [s for s in slices if s.domid != IDLE]
    assert {round(s.end_ns - s.begin_ns) for s in busy} == {MS // 2}
    assert [s.domid for s in busy] == [1, 2] * 4
    assert [s.delay_ns for s in busy] == [pytest.approx(10_000), None] * 4
    assert len(timeline.delays(slices, 1, 10 * MS, 40 * MS)) == 3
    # As late as none is later than its time stamp: the least lag counts, wherever it is.
    for lags in ((7000, 20_000, 9000), (20_000, 7000, 9000)):
        first = next(s for s in found(shared(lags)).slices if s.domid == 1)
        assert first.begin_ns == pytest.approx(5 * MS + 7000)


def test_a_late_record() -> None:
    """QEMU may stop a pCPU between the instant and the record: nothing moves."""
    lags = (7000, 600_000, 9000)
    moved = [(s.begin_ns, s.end_ns) for s in found(shared(lags)).slices]
    assert moved == [pytest.approx((s.begin_ns, s.end_ns)) for s in found().slices]


def test_a_long_slice() -> None:
    """The record has 32 bits of how long it was: 4.3 s; the time stamps say how often."""
    long_ns = 9_000_000_000
    clocks = (CLOCKS[0], TraceClock(10 * 10**9, BASE + 10 * 10**9))
    raw = switch(MS, IDLE, MS, 1) + switch(MS + long_ns, 1, long_ns, IDLE, lag=50_000)
    slices = timeline.decode(Trace(clocks, {0: raw})).slices
    assert [round(s.end_ns - s.begin_ns) for s in slices[:2]] == [MS, long_ns]


def test_bad_traces() -> None:
    """Cut, without a time stamp, who never came, and without a clock."""
    for raw, said in (
        (shared()[:-2], "inside a record"),
        (struct.pack("<I", timeline.INFPREV), "no time stamp"),
        (switch(MS, IDLE, MS, 1) + switch(2 * MS, 2, MS, IDLE), "came, and"),
        (switch(MS, IDLE, MS, 1) + switch(9 * MS, 1, MS, IDLE), "records missing"),
        (word(timeline.INFNEXT, 5, 1, 0, 0, 0), "where nobody went"),
    ):
        with pytest.raises(TraceError, match=said):
            found(raw)
    with pytest.raises(TraceError, match="clock"):
        timeline.decode(Trace(CLOCKS[:1], {}))


def test_sums_are_the_accounting() -> None:
    """To the ns where nobody runs at the edges; a lost slice, and one ns too much, are seen."""
    run = a_run()
    assert run.trace is not None
    whole = timeline.sums(timeline.decode(run.trace), run)
    assert {(s.name, s.what) for s in whole} >= {("master", "cpu_ns"), ("master", "usage_ns")}
    assert all(s.holds and s.bound_ns == timeline.ROUNDING_NS for s in whole)
    for wrong in (a_run(used_ns=2 * MS + 10), a_run(usage_ns=4 * MS - 10)):
        assert not all(s.holds for s in timeline.sums(timeline.decode(run.trace), wrong))


def test_an_edge_inside_a_slice() -> None:
    """What ran around the sample is open, and no more."""
    slices = found().slices
    # 10 us into the master's first slice.
    edge = (5.02 * MS, 1000.0)
    bound = timeline.bound_ns(slices, [1], [edge])
    assert bound == pytest.approx(timeline.ROUNDING_NS + 13_000 + 1000 + timeline.LAG_NS)
    assert timeline.bound_ns(slices, [2], [edge]) == timeline.ROUNDING_NS


def test_judged() -> None:
    """A run whose trace contradicts its accounting is an error of the lab, and named."""
    passed = oracle.Judgement(oracle.Verdict.PASS, "", (), ())
    good, decoded = timeline.judged(passed, a_run())
    assert good.verdict == oracle.Verdict.PASS and decoded is not None
    assert {c.verdict for c in good.checks} == {oracle.Verdict.PASS} and len(good.checks) == 4
    bad, _ = timeline.judged(passed, a_run(used_ns=3 * MS))
    assert bad.verdict == oracle.Verdict.ERROR and "master" in bad.reason
    cut = replace(a_run(), trace=Trace(CLOCKS, {0: shared()[:-2]}))
    assert timeline.judged(passed, cut)[0].verdict == oracle.Verdict.ERROR
    assert timeline.judged(passed, replace(a_run(), trace=None)) == (passed, None)


def test_groups() -> None:
    """Membership, throttling, and what was spent from refill to refill."""
    decoded = found()
    assert [set(who) for _, who in timeline.members(decoded, 1)] == [set(), {1, 2}]
    spans = timeline.throttled(decoded)
    assert len(spans) == 3 and all(8 * MS < end - begin < 10 * MS for begin, end, _ in spans)
    spent = [ran for _, ran in timeline.budget(decoded, 1) if ran]
    assert spent == [pytest.approx(MS)] * 4


def test_a_refill_that_no_number_is() -> None:
    """A slice that begins where a step ends, as nearly as can be said, and rounded is before it."""
    phase_ns, begin_ns = 9391957.203146832, 269391957.2031468
    assert (begin_ns - phase_ns) // (10 * MS) == 25
    decoded = timeline.Timeline(
        slices=(timeline.Slice(0, 1, 0, begin_ns, begin_ns + 3 * MS),),
        events=(
            timeline.GroupEvent(0.0, "join", 1, 2),
            timeline.GroupEvent(phase_ns, "unthrottle", 1, None),
        ),
    )
    spent = [ran for _, ran in timeline.budget(decoded, 1) if ran]
    assert spent == [pytest.approx(3 * MS)]


def test_chrome_trace() -> None:
    """A track for each pCPU, domain and group; times in us; every slice of a domain is on two."""
    whole = timeline.chrome_trace(found(), a_run())
    named = [e for e in whole["traceEvents"] if e["name"].endswith("_name")]
    names = {e["args"]["name"] for e in named}
    assert names == {
        *("pCPUs", "domains", "groups", "pCPU 0"),
        *("master v0", "second v0", "group of master"),
    }
    spans = [e for e in whole["traceEvents"] if e["ph"] == "X" and e["pid"] == 1]
    assert len(spans) == 8 and spans[0]["dur"] == pytest.approx(500)
    for one, two in zip(spans, spans[1:]):
        assert one["ts"] + one["dur"] <= two["ts"] + 1e-6
    assert any(e["name"] == "join second" for e in whole["traceEvents"])
    json.dumps(whole, allow_nan=False)


def test_picture() -> None:
    """A box a slice on its pCPU and in its domain's row."""
    drawn = timeline_plot.chart(
        found(), {1: "master", 2: "second"}, {1: 10}, (0.0, 40.0 * MS), "t"
    ).render()
    ElementTree.fromstring(drawn)
    assert drawn.count("0.500 ms on pCPU 0") == 16
    assert "second joins" in drawn and "master joins" not in drawn
