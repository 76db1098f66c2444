# SPDX-License-Identifier: GPL-2.0-only
"""The oracle, fed with good records and bad ones: every check is seen to fail."""

from __future__ import annotations

import json
from copy import deepcopy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from schedlab import oracle, records, scenario
from schedlab.oracle import Verdict
from schedlab.qemu import Outcome
from schedlab.scenario import Dims
from tests import synthetic
from tests.judging import (
    CHURN,
    DIMS,
    ENDED,
    GROUPED,
    PAUSE,
    SHARES,
    TO_AND_FRO,
    Raw,
    add_cpu,
    add_usage,
    judged,
    op,
    sample,
)


def test_ideal_passes() -> None:
    """Ideal records pass, solo phases are shown but not judged."""
    judgement = judged()
    assert (judgement.verdict, judgement.reason) == (Verdict.PASS, "")
    verdicts = {row.phase: row.verdict for row in judgement.rows}
    assert verdicts["joined"] == verdicts["three"] == Verdict.PASS
    assert verdicts["alone"] is None and verdicts["free"] is None
    joined = next(row for row in judgement.rows if row.phase == "joined")
    assert joined.share == pytest.approx(10) and joined.split == pytest.approx((50, 50))
    assert {c.clause for c in judgement.checks} == {"op", "groups", "E1.cap", "E4.even", "stats"}


def test_reference_has_rows_only() -> None:
    """On stock Xen the scenario runs without groups, and nothing of it is judged."""
    judgement = judged(groups=False)
    assert judgement.verdict == Verdict.PASS
    assert {row.verdict for row in judgement.rows} == {None}
    assert {check.clause for check in judgement.checks} == {"op"}


@pytest.mark.parametrize("more_ns", [8_000_000, -8_000_000])
def test_cap_window(more_ns: int) -> None:
    """E1 fails, above and below, in a window that the whole phase would forgive."""

    def distort(raw: Raw) -> None:
        # In one window, and back in the next.
        add_cpu(raw, "three/2", "master", more_ns)
        add_cpu(raw, "three/3", "master", -more_ns)

    judgement = judged(distort)
    bad = {c.where for c in judgement.checks if c.clause == "E1.cap" and c.verdict != Verdict.PASS}
    assert bad == {"window 2", "window 3"}
    assert judgement.verdict == Verdict.FAIL
    assert judgement.reason.startswith("E1.cap in three, window 2: master + second + third got")


def test_cap_whole() -> None:
    """E1 fails over the whole phase when each window is a little over."""

    def distort(raw: Raw) -> None:
        for k in range(1, 6):
            add_cpu(raw, f"joined/{k}", "master", 800_000)

    bad = [c for c in judged(distort).checks if c.verdict != Verdict.PASS and c.clause == "E1.cap"]
    assert [c.where for c in bad] == ["whole"]


@pytest.mark.parametrize(
    ("cap", "seconds", "at_once", "relative", "words"),
    [
        # In a second half a percent of the cap, or the overrun.
        (50, 1, 2, 0.005, "0.5% of the cap in 1 s"),
        (10, 1, 2, 0.01, "aim: 2 x quantum 0.5 ms in 1 s"),
        (400, 1, 8, 0.005, "0.5% of the cap in 1 s"),
        # The same number of ns in a longer one, ...
        (50, 4, 2, 0.00125, "0.5% of the cap in 1 s, in 4 s"),
        (10, 4, 2, 0.0025, "2 x quantum"),
        # ... and not less than what is allowed over 10 s, which is that whatever the overrun.
        (50, 8, 2, 0.001, "0.1% of the cap in 8 s"),
        (5, 10, 8, 0.001, "0.1% of the cap in 10 s"),
        (5, 9, 8, 0.001, "0.1% of the cap in 9 s"),
        (5, 8, 8, 0.01, "8 x quantum 0.5 ms in 8 s"),
    ],
)
def test_aim_is_computed(
    cap: int, seconds: float, at_once: int, relative: float, words: str
) -> None:
    """From cap, window and units, as the design's aims have it."""
    aim = oracle.cap_aim(cap, int(seconds * 1e9), at_once)
    assert aim is not None and aim[0] / cap == pytest.approx(relative)
    assert words in aim[1]
    assert oracle.cap_aim(cap, 800_000_000, at_once) is None


@pytest.mark.parametrize(
    ("ns", "cap", "at_once", "more_ns"),
    [
        # Of a piece of 1 ms two units can use 2 ms, where 0.5 ms are expected; or none.
        (1_001_000_000, 50, 2, 1_500_000),
        (999_000_000, 50, 2, 1_500_000),
        # Of 4 ms they can use the refill's 2 ms, where 0.8 ms are expected.
        (1_004_000_000, 20, 2, 1_200_000),
        # Of 5 ms at 90 % by one unit: none instead of 4.5 ms.
        (1_005_000_000, 90, 1, 4_500_000),
        (2_010_000_000, 90, 1, 0),
    ],
)
def test_cut_refill(ns: int, cap: int, at_once: int, more_ns: int) -> None:
    """A window that is no whole number of refills may have all of the one that it cuts, or none."""
    aim = oracle.cap_aim(cap, ns, at_once)
    assert aim is not None
    most_ns = max(0.005 * cap / 100 * 1e9, at_once * 500_000)
    assert aim[0] * ns / 100 == pytest.approx(most_ns + more_ns)
    assert ("a refill that it cuts" in aim[1]) == bool(more_ns)


def test_contract_is_computed() -> None:
    """E1's own: cap x 20 ms and 0.5 ms a unit, in any window."""
    for cap, seconds, at_once, allowed in ((10, 0.5, 2, 0.6), (10, 0.1, 1, 2.5), (10, 1, 2, 0.3)):
        tolerance, reason = oracle.cap_contract(cap, int(seconds * 1e9), at_once)
        assert tolerance == pytest.approx(allowed)
        assert f"period 20 ms + {at_once} x quantum 0.5 ms" in reason


@pytest.mark.parametrize("judged_too", [True, False])
def test_aim_or_contract(judged_too: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What misses the aim and keeps the contract fails where aims are judged; it says so in any
    case.
    """
    monkeypatch.setattr(oracle, "AIMS_JUDGED", judged_too)
    for more_ns, fails in ((2_900_000, judged_too), (3_100_000, True)):
        checks = judged(lambda raw: add_cpu(raw, "joined/1", "master", more_ns)).checks
        (check,) = [c for c in checks if (c.phase, c.where) == ("joined", "window 1")][:1]
        assert check.clause == "E1.cap" and (check.verdict == Verdict.FAIL) == fails
        assert check.aim == pytest.approx(0.1)


def test_even_split() -> None:
    """E4 fails when one domain takes from the other; the cap holds."""

    def distort(raw: Raw) -> None:
        for k in range(1, 6):
            add_cpu(raw, f"joined/{k}", "master", 20_000_000)
            add_cpu(raw, f"joined/{k}", "second", -20_000_000)

    judgement = judged(distort)
    bad = {c.clause for c in judgement.checks if c.verdict == Verdict.FAIL}
    assert bad == {"E4.even"}
    assert "E4.even in joined" in judgement.reason


def test_max_min() -> None:
    """Equal parts, bounded by what each can use, the rest to the others."""
    assert oracle.max_min(90, [100, 100, 100]) == pytest.approx([30, 30, 30])
    assert oracle.max_min(300, [400, 100, 50]) == pytest.approx([150, 100, 50])
    assert oracle.max_min(10, [0, 100]) == pytest.approx([0, 10])


def test_errno() -> None:
    """An operation that answers something else than expected fails."""

    def distort(raw: Raw) -> None:
        op(raw, "join")["errno"] = "EBUSY"

    judgement = judged(distort)
    assert judgement.verdict == Verdict.FAIL
    assert "join master second" in judgement.reason and "EBUSY" in judgement.reason


def test_membership() -> None:
    """A group that the hypervisor does not report, or reports with other domains, fails."""

    def forget(raw: Raw) -> None:
        sample(raw, "joined/3")["groups"] = []

    def linger(raw: Raw) -> None:
        sample(raw, "free/1")["groups"] = deepcopy(sample(raw, "joined/1")["groups"])

    def undissolved(raw: Raw) -> None:
        """Its last member is gone."""
        linger(raw)
        for group in sample(raw, "free/1")["groups"]:
            del group["domains"][1:]

    for distort, phase in ((forget, "joined"), (linger, "free"), (undissolved, "free")):
        judgement = judged(distort)
        assert judgement.verdict == Verdict.FAIL
        bad = [c for c in judgement.checks if c.verdict == Verdict.FAIL]
        assert [(c.clause, c.phase) for c in bad] == [("groups", phase)]


def late_sample(raw: Raw) -> None:
    """dom0 was kept from its CPU."""
    sample(raw, "joined/2")["t_ns"] += 150_000_000


def late_op(raw: Raw) -> None:
    """An operation that reaches into the judged windows."""
    op(raw, "join")["done_ns"] += 500_000_000


def lost_sample(raw: Raw) -> None:
    """A sample is missing."""
    raw.remove(sample(raw, "joined/2"))


def lost_op(raw: Raw) -> None:
    """An operation is missing."""
    raw.remove(op(raw, "join"))


def impossible_share(raw: Raw) -> None:
    """More than a whole pCPU for one vCPU."""
    add_cpu(raw, "free/1", "second", 5_000_000)


@pytest.mark.parametrize("distort", [late_sample, late_op, lost_sample, lost_op, impossible_share])
def test_execution(distort: Callable[[Raw], None]) -> None:
    """A timeline that was not carried out as asked is an error, not a failure of Xen's."""
    assert judged(distort).verdict == Verdict.ERROR


def crashed(raw: Raw) -> None:
    """A domain crashed."""
    sample(raw, "three/1")["domains"][2]["state"] = "crashed"


def guest_failure(raw: Raw) -> None:
    """A guest gave up by itself."""
    sample(raw, "three/1")["domains"][2]["guest_failure"] = 3


def no_end(raw: Raw) -> None:
    """The records stop."""
    raw.pop()


@pytest.mark.parametrize("distort", [crashed, guest_failure, no_end])
def test_crash(distort: Callable[[Raw], None]) -> None:
    """A guest that crashes, or records that stop, are a crash."""
    assert judged(distort).verdict == Verdict.CRASH


def test_controller_error() -> None:
    """The controller's own error records are an error, with its words."""

    def distort(raw: Raw) -> None:
        raw.insert(3, {"r": "error", "what": "no memory", "errno": "ENOMEM"})
        raw[-1]["errors"] = 1

    judgement = judged(distort)
    assert judgement.verdict == Verdict.ERROR and "no memory (ENOMEM)" in judgement.reason


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (Outcome(0), Verdict.CRASH),
        (Outcome(None, "Panic on CPU 0"), Verdict.CRASH),
        (Outcome(-9, "killed"), Verdict.CRASH),
        (Outcome(3), Verdict.ERROR),
    ],
)
def test_outcome(outcome: Outcome, verdict: Verdict) -> None:
    """Good records do not help when QEMU ended in another way than the controller's."""
    assert judged(outcome=outcome).verdict == verdict


def test_silence_is_a_crash() -> None:
    """Nothing seen is no pass."""
    assert oracle.worst([]) == Verdict.CRASH
    assert oracle.worst([Verdict.PASS, Verdict.ERROR, Verdict.FAIL]) == Verdict.ERROR


CLAUSES = """\
name = "clauses"
[[domain]]
name = "a"
cap = 50
[[phase]]
name = "p"
duration = "1s"
do = [{ op = "start", domain = "a" }]
show = ["a"]
expect = [{ clause = "%s" %s }]
"""


@pytest.mark.parametrize(
    ("clause", "extra", "more_ns", "passes"),
    [
        ("E1.upper", "", -100_000_000, True),
        ("E1.upper", "", 100_000_000, False),
        ("E1.lower", "", 100_000_000, True),
        ("E1.lower", "", -100_000_000, False),
        ("E1.cap", ', tolerance = 20, reason = "for the test"', 100_000_000, True),
        ("share", ', share = 50, tolerance = 1, reason = "known answer"', 0, True),
        ("share", ', share = 50, tolerance = 1, reason = "known answer"', 15_000_000, False),
        ("share", ', share = 40, tolerance = 1, reason = "forced wrong"', 0, False),
    ],
)
def test_clauses(clause: str, extra: str, more_ns: int, passes: bool) -> None:
    """One-sided clauses, overrides with their reason, and a known share that is forced wrong."""
    what = scenario.parse(CLAUSES % (clause, extra), Path("clauses.toml"))
    judgement = judged(lambda raw: add_cpu(raw, "p/1", "a", more_ns), what=what)
    assert judgement.verdict == (Verdict.PASS if passes else Verdict.FAIL)


@pytest.mark.parametrize(
    ("steps", "clause", "cpu_ns", "usage_ns", "bad"),
    [
        ("", '"E1.cap"', 0, 0, set()),
        ("", '"E1.cap"', 0, 30_000_000, {"whole, usage_ns"}),
        ("", '"E1.lower"', 0, 30_000_000, set()),
        ("", '"E1.lower"', 0, -30_000_000, {"whole, usage_ns"}),
        ("", '"E1.cap"', 30_000_000, 0, {"whole"}),
        ("", '"E2.weight", like = "solo"', 0, 0, set()),
        ("", '"E2.weight", like = "solo"', 25_000_000, 0, {"whole"}),
        ("", '"E2.weight", like = "solo"', -25_000_000, 0, {"whole"}),
        (PAUSE, '"E3.steady"', 0, 0, set()),
        (PAUSE, '"E3.steady"', 25_000_000, 0, {"operations and all"}),
        (PAUSE, '"E3.steady"', -25_000_000, 0, {"operations and all"}),
        (PAUSE, '"E3.steady"', 0, 25_000_000, {"operations and all, usage_ns"}),
        (TO_AND_FRO, '"E3.steady"', 0, 0, set()),
        (TO_AND_FRO, '"E3.steady"', 25_000_000, 0, {"operations and all"}),
        (CHURN, '"E3.steady"', 0, 0, set()),
        (CHURN, '"E3.steady"', -25_000_000, 0, {"operations and all"}),
        (CHURN, '"E3.steady"', 25_000_000, 0, {"operations and all"}),
    ],
)
def test_group_clauses(steps: str, clause: str, cpu_ns: int, usage_ns: int, bad: set[str]) -> None:
    """By the domains' time and by the group's account; in a phase and in its operations."""
    what = scenario.parse(GROUPED % (steps, clause), Path("grouped.toml"))

    def distort(raw: Raw) -> None:
        add_cpu(raw, "p/1", "b", cpu_ns)
        add_usage(raw, "p/1", usage_ns)

    judgement = judged(distort, what=what)
    clauses = [check for check in judgement.checks if check.clause != "stats"]
    found = {check.where for check in clauses if check.verdict == Verdict.FAIL}
    assert (found, judgement.reason == "") == (bad, not bad), judgement.reason


@pytest.mark.parametrize(("moved_ns", "passes"), [(125_000_000, True), (0, False)])
def test_weighted_split(moved_ns: int, passes: bool) -> None:
    """E4 with weights inside: 768 to the default's 256 is 37.5 to 12.5, and an even split fails."""
    what = scenario.parse(GROUPED % (SHARES, '"E4.weighted"'), Path("grouped.toml"))

    def distort(raw: Raw) -> None:
        add_cpu(raw, "p/1", "a", moved_ns)
        add_cpu(raw, "p/1", "b", -moved_ns)

    assert judged(distort, what=what).verdict == (Verdict.PASS if passes else Verdict.FAIL)


def test_max_min_weighted() -> None:
    """By weight, bounded by what each can use."""
    assert oracle.max_min(40, [100, 100], [3, 1]) == pytest.approx([30, 10])
    assert oracle.max_min(200, [100, 400], [3, 1]) == pytest.approx([100, 100])


WEIGHED = """\
name = "weighed"
[[domain]]
name = "a"
weight = 768
%s
[[domain]]
name = "b"
[[domain]]
name = "out"
[[phase]]
name = "solo"
duration = "1s"
do = [{ op = "start", domain = "a" }, { op = "start", domain = "out" }]
[[phase]]
name = "both"
duration = "1s"
do = [{ op = "join", master = "a", member = "b" }, { op = "start", domain = "b" }]
show = ["a", "b"]
expect = [{ clause = "E2.weight", like = "solo" }]
"""


@pytest.mark.parametrize(
    ("key", "dims", "due"),
    [
        ("", Dims("credit", 1, "cores", 5, 1), 75.0),
        ("", Dims("credit", 2, "cores", 5, 1), 100.0),
        ("vcpus = 3", Dims("credit", 1, "cores", 5, 1), 90.0),
        ("cap = 50", Dims("credit", 1, "cores", 5, 1), None),
        ("affinity = [0]", Dims("credit", 1, "cores", 5, 1), None),
    ],
)
def test_due(key: str, dims: Dims, due: float | None) -> None:
    """By weight and vCPUs, bounded by what a domain can use; unknown where there is a cap."""
    what = scenario.parse(WEIGHED % key, Path("weighed.toml"))
    assert oracle.due(what, dims, what.phases[1], "a") == (due and pytest.approx(due))


@pytest.mark.parametrize(
    ("scheduler", "alone_ns", "group_ns", "passes"),
    [
        ("credit2", 710_000_000, 750_000_000, False),
        ("credit", 710_000_000, 750_000_000, True),
        ("credit", 710_000_000, 730_000_000, True),
        ("credit", 610_000_000, 740_000_000, True),
        # Nor beyond the farther of the two, whichever that is.
        ("credit", 910_000_000, 850_000_000, True),
        ("credit", 910_000_000, 990_000_000, False),
        ("credit2", 610_000_000, 640_000_000, False),
        ("credit", 710_000_000, 640_000_000, False),
        ("credit", 710_000_000, 815_000_000, False),
        ("credit", 770_000_000, 750_000_000, True),
        ("credit", 770_000_000, 680_000_000, False),
    ],
)
def test_weight_between(scheduler: str, alone_ns: int, group_ns: int, passes: bool) -> None:
    """On credit a group may be nearer to its due than its master was, by no means beyond it."""
    what = scenario.parse(WEIGHED % "", Path("weighed.toml"))
    raw: Raw = synthetic.records(json.loads(what.as_json(DIMS, groups=True)))
    for label, got_ns in (("solo/0", 0), ("solo/1", alone_ns), ("both/0", 0), ("both/1", group_ns)):
        for use in sample(raw, label)["domains"]:
            use["cpu_ns"] = got_ns if use["name"] == "a" else 0
    found = records.parse(synthetic.lines(raw).splitlines())
    judgement = oracle.judge(what, Dims(scheduler, 1, "cores", 5, 1), found, ENDED, groups=True)
    bad = {check.clause for check in judgement.checks if check.verdict == Verdict.FAIL}
    assert bad == (set() if passes else {"E2.weight"}), judgement.reason


@pytest.mark.parametrize(
    ("dims", "judged_there"),
    [
        (Dims("credit", 1, "cores", 5, 1), True),
        (Dims("credit", 2, "cores", 5, 1), False),
        (Dims("credit2", 4, "cores", 5, 1), True),
        (Dims("credit2", 4, "sockets", 5, 1), False),
        (Dims("credit2", 1, "sockets", 5, 1), True),
    ],
)
def test_one_runqueue(dims: Dims, judged_there: bool) -> None:
    """Weight is judged on one runqueue: credit has one a pCPU, credit2 one a socket."""
    what = scenario.parse(WEIGHED % "", Path("weighed.toml"))
    raw: Raw = synthetic.records(json.loads(what.as_json(DIMS, groups=True)))
    found = records.parse(synthetic.lines(raw).splitlines())
    judgement = oracle.judge(what, dims, found, ENDED, groups=True)
    assert ("E2.weight" in {check.clause for check in judgement.checks}) == judged_there


COUNTED = """\
name = "counted"
[[domain]]
name = "a"
[[phase]]
name = "p"
duration = "1s"
do = [{ op = "domctl", cmd = "get", master = "a", room = 2, count = 3, errno = "ENOBUFS" }]
"""


@pytest.mark.parametrize(
    ("answer", "bad"),
    [
        ({"errno": "ENOBUFS", "count": 3, "written": 2}, 0),
        ({"errno": "ENOBUFS", "count": 2, "written": 2}, 1),
        ({"errno": "ENOBUFS", "count": 3, "written": 0}, 1),
        ({"errno": "ENOBUFS"}, 1),
        ({"errno": 0, "count": 3, "written": 3}, 2),
    ],
)
def test_count(answer: dict[str, Any], bad: int) -> None:
    """What fits is written, the true count returned, and the errno says so."""
    what = scenario.parse(COUNTED, Path("counted.toml"))

    def distort(raw: Raw) -> None:
        op(raw, "domctl").update(answer)

    checks = [check for check in judged(distort, what=what).checks if check.clause == "op"]
    assert sum(check.verdict == Verdict.FAIL for check in checks) == bad


@pytest.mark.parametrize(
    ("of", "key", "more", "bad"),
    [
        ("group", "nr_periods", 2, {"nr_periods", "b: as many", "a: as many"}),
        ("group", "nr_throttled", -200, {"nr_throttled", "a: throttled", "b: throttled"}),
        ("group", "nr_throttled", 2, {"nr_throttled"}),
        ("group", "throttled_ns", -(10**9), {"throttled_ns", "a: no more", "b: no more"}),
        ("group", "throttled_ns", 10**9, {"throttled_ns"}),
        ("b", "usage_ns", -1, {"its domains'"}),
        ("b", "nr_periods", -2, {"b: as many"}),
        ("b", "nr_throttled", 1, {"b: throttled"}),
        ("b", "throttled_ns", 1, {"b: no more"}),
    ],
)
def test_statistics(of: str, key: str, more: int, bad: set[str]) -> None:
    """Each figure that a group gives of itself is held against the others, and the clock."""
    what = scenario.parse(GROUPED % ("", '"E1.cap"'), Path("grouped.toml"))

    def distort(raw: Raw) -> None:
        for group in sample(raw, "p/1")["groups"]:
            if of == "group":
                group[key] += more
            for domain in group["domains"]:
                if domain["name"] == of:
                    domain[key] += more

    checks = [check for check in judged(distort, what=what).checks if check.clause == "stats"]
    assert len(checks) == 10
    found = {check.where for check in checks if check.verdict == Verdict.FAIL}
    assert len(found) == len(bad) and all(any(f.startswith(b) for f in found) for b in bad), found


def with_guests(raw: Raw, more_ns: int, slices: int) -> None:
    """Let each domain's guest see what it was charged for, and more_ns in each second; so many
    timeslices in a second.
    """
    for record in raw:
        if record["r"] == "sample":
            for use in record["domains"]:
                if use["name"] == "dom0":
                    continue
                seconds = record["t_ns"] / 1e9
                ran_ns = int(use["cpu_ns"] + more_ns * seconds)
                view = dict.fromkeys(GUEST_KEYS, 0)
                view |= {"clock_ns": record["t_ns"], "ran_ns": max(0, ran_ns)}
                view |= {"slices": int(slices * seconds), "runstate": RUNSTATE}
                use["guest"] = [view]


RUNSTATE = dict.fromkeys(("running_ns", "runnable_ns", "blocked_ns", "offline_ns"), 0)
GUEST_KEYS = ("work", "gap_ns", "longest_gap_ns", "idle_ns", "wakes", "late_ns", "longest_late_ns")
WITNESSED = """\
name = "witnessed"
[[domain]]
name = "master"
cap = 100
workload = "WORKLOAD"
guest = { period = "20ms", run = "1ms" }
[[domain]]
name = "second"
[[phase]]
name = "joined"
duration = "5s"
do = [
    { op = "start", domain = "master" },
    { op = "join", master = "master", member = "second" },
]
show = ["master", "second"]
"""
# At 4 pCPUs and shift 5 an instruction of Xen's is 128 ns.  200 refills' and 10 slices' 7000 or
# 16 000 a second may be missing; and a threshold of 0.7 ms (two guests, and dom0) 14.5 times in the
# five seconds be there too much.
PV_MS = (200 * 7 + 10 * 7) * 0.128
PVH_MS = (200 * 16 + 10 * 16) * 0.128


@pytest.mark.parametrize(
    ("workload", "kind", "more_ms", "passes"),
    [
        ("burner", "pv", 0, True),
        ("burner", "pv", -PV_MS + 2, True),
        ("burner", "pv", -PV_MS - 2, False),
        ("burner", "pv", 1.9, True),
        ("burner", "pv", 2.2, False),
        ("burner", "pvh", -PVH_MS + 2, True),
        ("burner", "hvm", -PVH_MS - 2, False),
        ("sleeper", "pv", -PV_MS - 2, False),
        ("sleeper", "pvh", -PVH_MS - 2, True),
    ],
)
def test_witness(workload: str, kind: str, more_ms: float, passes: bool) -> None:
    """A guest that saw more or less of its CPU time than it was charged for, beyond what Xen
    itself may take or the guest overlook, is a failure of its own.
    """
    what = scenario.parse(WITNESSED.replace("WORKLOAD", workload), Path("witnessed.toml"))
    dims = Dims("credit2", 4, "cores", 5, 1, kind)
    judgement = judged(lambda raw: with_guests(raw, int(more_ms * 1e6), 10), what=what, dims=dims)
    (check, _) = [c for c in judgement.checks if c.clause == oracle.WITNESS]
    assert (check.domains, check.verdict == Verdict.PASS) == (("master",), passes)
    assert (judgement.verdict == Verdict.PASS) == passes


@pytest.mark.parametrize(("more_ms", "passes"), [(-PV_MS - 200, True), (1.9, True), (2.2, False)])
def test_witness_in_real_time(more_ms: float, passes: bool) -> None:
    """What the host takes is charged, and no guest sees it; more than was charged is wrong."""
    what = scenario.parse(WITNESSED.replace("WORKLOAD", "burner"), Path("witnessed.toml"))
    dims = Dims("credit2", 4, "cores", 5, 1)
    judgement = judged(
        lambda raw: with_guests(raw, int(more_ms * 1e6), 10), what=what, dims=dims, real=True
    )
    assert (judgement.verdict == Verdict.PASS) == passes


OVERLOOKED = """\
name = "overlooked"
[[domain]]
name = "master"
cap = CAP
[[domain]]
name = "second"
[[domain]]
name = "out"
vcpus = VCPUS
[[phase]]
name = "joined"
duration = "5s"
do = [
    { op = "join", master = "master", member = "second" },
    { op = "start", domain = "master" },
    { op = "start", domain = "second" },
    { op = "start", domain = "out" },
]
show = ["master", "second"]
"""


@pytest.mark.parametrize(
    ("cap", "name", "more_ms", "passes"),
    [
        (5, "out", 92, True),
        (5, "out", 94, False),
        (50, "out", 2.5, True),
        (50, "out", 2.8, False),
        (16, "second", 92, True),
        (16, "second", 94, False),
        (8, "second", 2.5, True),
        (8, "second", 2.8, False),
    ],
)
def test_witness_of_small_parts(cap: int, name: str, more_ms: float, passes: bool) -> None:
    """A guest overlooks the part of a refill that is below its threshold, once in each refill: at
    5 %, 0.25 ms and a switch of 0.9 ms, 0.9 ms seen as one; at 50 %, 2.5 ms, it overlooks none.
    In its own group it may, where a part is more than a quantum: 0.8 ms at 16 %, not 0.4 at 8 %.
    """
    witnessed_small_parts(cap, Dims("credit2", 4, "cores", 5, 1), 1, name, more_ms, passes)


@pytest.mark.parametrize(
    ("cap", "more_ms", "passes"), [(40, -200, True), (80, -93, True), (80, -96, False)]
)
def test_witness_of_parts_of_its_own(cap: int, more_ms: float, passes: bool) -> None:
    """Eleven busy pCPUs: of its own part of 2 ms a guest may see nothing, as a round of turns is
    2.2 ms; of 4 ms it sees all but Xen's share: 210 times 7000 instructions of 64 ns.
    """
    witnessed_small_parts(cap, Dims("credit2", 16, "cores", 2, 1), 8, "second", more_ms, passes)


def witnessed_small_parts(
    cap: int, dims: Dims, vcpus: int, name: str, more_ms: float, passes: bool
) -> None:
    """Judge a domain that saw so much more in a second than it was charged for."""
    text = OVERLOOKED.replace("CAP", str(cap)).replace("VCPUS", str(vcpus))
    what = scenario.parse(text, Path("overlooked.toml"))
    judgement = judged(lambda raw: with_guests(raw, int(more_ms * 1e6), 10), what=what, dims=dims)
    (check,) = [c for c in judgement.checks if (c.clause, c.domains) == (oracle.WITNESS, (name,))]
    assert (check.verdict == Verdict.PASS) == passes


WOKEN = """\
name = "woken"
[[domain]]
name = "master"
cap = 50
[[domain]]
name = "stub"
workload = "periodic"
guest = { period = "10ms", run = "200us" }
[[phase]]
name = "even"
duration = "2s"
do = [
    { op = "join", master = "master", member = "stub" },
    { op = "start", domain = "master" },
    { op = "start", domain = "stub" },
]
show = ["master", "stub"]
expect = [{ clause = "woken", domains = ["stub"], most = "1ms" }]
"""


@pytest.mark.parametrize(
    ("wakes", "late_us", "passes"), [(100, 1000, True), (100, 1001, False), (0, 0, False)]
)
def test_woken(wakes: int, late_us: int, passes: bool) -> None:
    """A domain that wakes is late by so much at most, in the mean; one that never wakes is not."""
    what = scenario.parse(WOKEN, Path("woken.toml"))

    def distort(raw: Raw) -> None:
        with_guests(raw, 0, 10)
        for record in raw:
            for use in record["domains"] if record["r"] == "sample" else ():
                for view in use["guest"]:
                    view["wakes"] = round(wakes * record["t_ns"] / 1e9)
                    view["late_ns"] = round(wakes * record["t_ns"] / 1e9 * late_us * 1000)

    checks = judged(distort, what=what, dims=Dims("credit", 1, "cores", 5, 1)).checks
    (check,) = [c for c in checks if c.clause == "woken"]
    assert (check.verdict == Verdict.PASS) == passes
