# SPDX-License-Identifier: GPL-2.0-only
"""Devices: what a scenario may say of them, their records, percentiles, and every clause of theirs
seen to fail.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from schedlab import devices, oracle, records, report, run, scenario
from schedlab.core.errors import LabError
from schedlab.oracle import Judgement, Verdict
from schedlab.qemu import Outcome
from schedlab.records import RecordError
from schedlab.scenario import Dims, ScenarioError
from tests import synthetic

DIMS = Dims("credit2", 1, "cores", 5, 1)
STUB = """\
name = "stub"
[[domain]]
name = "guest"
cap = 20
workload = "disk"
guest = { run = "200us", malformed = 9 }
[[domain]]
name = "stub"
stub_of = "guest"
guest = { cost = "400us", block = 1024 }
[[phase]]
name = "quiet"
duration = "1s"
do = [{ op = "start", domain = "stub" }]
[[phase]]
name = "busy"
duration = "1s"
settle = "100ms"
do = [{ op = "start", domain = "guest" }]
show = ["guest", "stub"]
rows = [["guest"], ["stub"], ["guest", "stub"]]
expect = [{ clause = "%s", domains = ["guest"] %s }]
"""
Raw = list[dict[str, Any]]


def load(clause: str = "IO.intact", more: str = "") -> scenario.Scenario:
    """The scenario with one expectation."""
    return scenario.parse(STUB % (clause, more), Path("stub.toml"))


def test_compiled() -> None:
    """A stub is PV, its target HVM, and each is told what concerns it."""
    guest, stub = json.loads(load().as_json(DIMS))["domains"]
    assert (guest["kind"], guest["image"]) == ("hvm", "disk-pvh")
    assert (stub["kind"], stub["image"], stub["stub_of"]) == ("pv", "device_model-pv", "guest")
    assert "stub_of" not in guest
    assert guest["guest"]["malformed_every"] == 9 and guest["guest"]["run_ns"] == 200_000
    assert "malformed_every" not in stub["guest"]
    assert (stub["guest"]["cost_ns"], stub["guest"]["block_bytes"]) == (400_000, 1024)


@pytest.mark.parametrize(
    ("old", "new", "key", "what"),
    [
        ('workload = "disk"', 'workload = "disk"\nkind = "pv"', "domain[0].kind", "of kind pv"),
        ('stub_of = "guest"', 'stub_of = "guest"\nkind = "hvm"', "domain[1].kind", "of kind hvm"),
        ('stub_of = "guest"', 'stub_of = "gast"', "domain[1].stub_of", "no domain gast"),
        ('stub_of = "guest"', 'workload = "device_model"', "domain[1]", "has a stub_of"),
        ('stub_of = "guest"', 'stub_of = "guest"\nworkload = "burner"', "domain[1]", "only that"),
        ('stub_of = "guest"', 'stub_of = "guest"\nvcpus = 2', "domain[1].vcpus", "has one"),
        ('workload = "disk"', 'workload = "disk"\nmemory = "512M"', "domain[0].memory", "within"),
        ('cost = "400us"', 'cost = "400us", malformed = 1', "domain[1].guest.malformed", "has it"),
        ("malformed = 9", 'cost = "9us"', "domain[0].guest.cost", "no disk has it"),
        ("block = 1024", "block = 1000", "domain[1].guest.block", "not known"),
        ("malformed = 9", "malformed = -1", "domain[0].guest.malformed", "out of range"),
        ('domains = ["guest"]', 'domains = ["stub"]', "phase[1].expect[0]", "judges a disk"),
        ('["guest", "stub"]]', '["guest", "stab"]]', "phase[1].rows", "no domain stab"),
    ],
)
def test_refused(old: str, new: str, key: str, what: str) -> None:
    """Each mistake is refused by an error that names the key."""
    text = STUB % ("IO.intact", "")
    assert old in text
    with pytest.raises(ScenarioError) as caught:
        scenario.parse(text.replace(old, new, 1), Path("stub.toml"))
    assert key in caught.value.what
    assert what in caught.value.what


def test_target_without_a_driver() -> None:
    """A stub of a domain that asks for no device is refused."""
    text = (STUB % ("IO.intact", "")).replace('workload = "disk"', 'workload = "burner"', 1)
    text = text.replace("malformed = 9", "chunk_iterations = 20")
    with pytest.raises(LabError, match="asks for no device"):
        scenario.parse(text, Path("stub.toml"))


@pytest.mark.parametrize(
    ("clause", "more", "what"),
    [
        ("IO.served", "", "least is missing"),
        ("IO.intact", ", least = 5", "drop it"),
        ("IO.local", "", "like is missing"),
        ("IO.local", ', like = "busy"', "no phase busy before"),
        ("IO.served", ", least = 0", "out of range"),
    ],
)
def test_clauses_refused(clause: str, more: str, what: str) -> None:
    """What a clause needs, and what it cannot have."""
    with pytest.raises(ScenarioError) as caught:
        load(clause, more)
    assert what in caught.value.what + caught.value.remedy


def device(**counts: int) -> dict[str, Any]:
    """A raw device page."""
    names = [
        *("started", "written", "verified", "corrupt", "lost", "refused", "wrong", "unanswered"),
        *("connected", "clock_wrong", "waited_ns", "worst_ns", "accesses", "served", "rejected"),
    ]
    page: dict[str, Any] = dict.fromkeys(names, 0)
    return {**page, "latency": [], "clock_latency": [], **counts}


def ideal() -> Raw:
    """Records of a guest that asks 100 times a second, a block or the clock, without a flaw."""
    raw: Raw = synthetic.records(json.loads(load().as_json(DIMS)))
    for record in raw:
        if record["r"] != "sample":
            continue
        seconds = max(0.0, record["t_ns"] / 1e9 - 1.1)  # the guest's start
        done = round(100 * seconds)
        for use in record["domains"]:
            if use["name"] == "guest" and done:
                use["device"] = device(started=done, written=done // 4, verified=done // 4)
                use["device"]["latency"] = [[1024, done // 2], [4096, done // 4]]
                use["device"]["clock_latency"] = [[1024, done - done // 2 - done // 4]]
    return raw


def pages(raw: Raw) -> list[dict[str, Any]]:
    """The guest's device pages, in order."""
    uses = [u for r in raw if r["r"] == "sample" for u in r["domains"]]
    return [use["device"] for use in uses if "device" in use]


def judged(what: scenario.Scenario, distort: Callable[[Raw], object]) -> Judgement:
    """The judgement of ideal records after ``distort`` has had them."""
    raw = ideal()
    distort(raw)
    found = records.parse(synthetic.lines(raw).splitlines())
    return oracle.judge(what, DIMS, found, Outcome(1))


def last(**counts: int) -> Callable[[Raw], object]:
    """Counts of the last page."""
    return lambda raw: pages(raw)[-1].update(counts)


def every(**changes: Any) -> Callable[[Raw], object]:
    """The same in all pages."""
    return lambda raw: [page.update(changes) for page in pages(raw)]


def dom0_more(ns: int) -> Callable[[Raw], object]:
    """dom0 has used more by the end."""

    def distort(raw: Raw) -> None:
        samples = [r for r in raw if r["r"] == "sample"]
        for use in samples[-1]["domains"]:
            if use["name"] == "dom0":
                use["cpu_ns"] += ns

    return distort


def nothing(raw: Raw) -> None:
    """Leaves it as it is."""


HUNG = every(started=5, latency=[[1024, 3]], clock_latency=[[1024, 1]])


@pytest.mark.parametrize(
    ("clause", "more", "distort", "passes"),
    [
        ("IO.intact", "", nothing, True),
        ("IO.intact", "", last(corrupt=1), False),
        ("IO.intact", "", last(wrong=1), False),
        ("IO.intact", "", last(clock_wrong=1), False),
        ("IO.intact", "", last(lost=1), False),
        ("IO.intact", "", last(unanswered=1), False),
        ("IO.intact", "", every(verified=0), False),
        ("IO.intact", "", every(written=0), False),
        ("IO.served", ", least = 95", nothing, True),
        ("IO.served", ", least = 105", nothing, False),
        ("IO.served", ", least = 1", HUNG, False),
        # Whatever is expected of it: a driver is never told anything wrong.
        ("IO.served", ", least = 1", last(corrupt=1), False),
        ("IO.served", ", least = 1", last(wrong=1), False),
        ("IO.served", ", least = 1", last(clock_wrong=1), False),
        ("IO.served", ", least = 1", last(lost=1, unanswered=1), True),
        ("IO.stopped", "", HUNG, True),
        ("IO.stopped", "", nothing, False),
        ("IO.stopped", "", every(started=4, latency=[[1024, 3]], clock_latency=[[1024, 1]]), False),
        ("IO.stopped", "", every(started=6, latency=[[1024, 3]], clock_latency=[[1024, 1]]), False),
        ("IO.refused", "", last(refused=3), True),
        ("IO.refused", "", nothing, False),
        ("IO.refused", "", last(refused=3, wrong=1), False),
        ("IO.local", ', like = "quiet"', nothing, True),
        ("IO.local", ', like = "quiet"', dom0_more(300_000), True),
        ("IO.local", ', like = "quiet"', dom0_more(400_000), False),
        ("IO.local", ', like = "quiet"', HUNG, False),
    ],
)
def test_clauses(clause: str, more: str, distort: Callable[[Raw], object], passes: bool) -> None:
    """Each clause holds where it should, and fails where it should."""
    judgement = judged(load(clause, more), distort)
    assert judgement.verdict == (Verdict.PASS if passes else Verdict.FAIL), judgement.reason


@pytest.mark.parametrize("clause", ["IO.intact", "IO.stopped", "IO.refused"])
def test_silence(clause: str) -> None:
    """A guest that never spoke of a device passes nothing."""

    def mute(raw: Raw) -> None:
        for record in raw:
            for use in record.get("domains", []) if record["r"] == "sample" else []:
                use.pop("device", None)

    assert judged(load(clause), mute).verdict == Verdict.FAIL


def test_rows() -> None:
    """Guest, stub and both are rows; only both are judged, and have the cap while it is theirs."""
    judgement = judged(load(), nothing)
    rows = [row for row in judgement.rows if row.phase == "busy"]
    assert [row.domains for row in rows] == [("guest",), ("stub",), ("guest", "stub")]
    assert [row.cap_percent for row in rows] == [20, 0, 20]
    assert [row.verdict for row in rows] == [None, None, Verdict.PASS]
    seen = rows[0].traffic["guest"]
    assert (seen.median_ns, seen.p99_ns, seen.worst_ns, seen.wrong) == (1024, 4096, 4096, 0)
    assert seen.requests == pytest.approx(75, abs=1)


def test_table() -> None:
    """What devices did is a table of its own, a phase and driver a line."""
    what = load()
    judgement = judged(what, nothing)
    empty = records.parse([])
    case = run.Case(what, DIMS, "patched", Path(), "", {}, Outcome(1), empty, judgement)
    _, traffic = report.table([(case, None)]).split("\n\n")
    assert len(traffic.splitlines()) == 3
    words = traffic.splitlines()[-1].split()
    assert words[2:4] == ["busy", "guest"] and words[-4:] == ["1", "4", "4", "0"]


def test_percentile() -> None:
    """The bucket below whose end at least that part is."""
    assert devices.percentile([], 0.5) is None
    histogram = [(10, 1), (20, 98), (30, 1)]
    assert devices.percentile(histogram, 0.01) == 10
    assert devices.percentile(histogram, 0.5) == 20
    assert devices.percentile(histogram, 0.99) == 20
    assert devices.percentile(histogram, 0.995) == 30
    assert devices.percentile(histogram, 1.0) == 30
    assert devices.between([(10, 1), (20, 5)], [(5, 2), (10, 1), (20, 7)]) == [(5, 2), (20, 2)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"more": 1}, "unknown key more"),
        ({"started": -1}, "started is -1"),
        ({"latency": [[1]]}, "latency is not a list of pairs"),
        ({"latency": [[1, "x"]]}, "latency is not a list of pairs"),
        ({"latency": {}}, "latency is not a list of pairs"),
    ],
)
def test_records_refused(change: dict[str, Any], words: str) -> None:
    """A device page that is not what it should be."""
    raw = ideal()
    pages(raw)[-1].update(change)
    with pytest.raises(RecordError, match=words):
        records.parse(synthetic.lines(raw).splitlines())


def test_a_time_that_varies() -> None:
    """``$cost us`` is a time; without its unit it is none."""
    text = (STUB % ("IO.intact", "")).replace('"400us"', '"$cost us"')
    text = text.replace("[[domain]]", "[vary]\ncost = [100, 300]\n[[domain]]", 1)
    what = scenario.parse(text, Path("stub.toml"))
    costs = [what.of(dims).domains[1].parameters["cost_ns"] for dims in what.matrix()]
    assert costs == [100_000, 300_000]
    with pytest.raises(ScenarioError, match="does not fit|is not string"):
        scenario.parse(text.replace("$cost us", "$cost"), Path("stub.toml"))
