# SPDX-License-Identifier: GPL-2.0-only
"""Each term of each bound, just inside and just outside; and what is no check at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from schedlab import oracle, scenario
from schedlab.oracle import Check, Verdict
from schedlab.records import DomainUse, Sample
from schedlab.scenario import Dims
from tests.judging import (
    CHURN,
    DIMS,
    GROUPED,
    PAUSE,
    TEN,
    TO_AND_FRO,
    Raw,
    add_cpu,
    add_usage,
    judged,
    op,
    sample,
)

ONE = Dims("credit2", 1, "cores", 5, 1)
CREDIT = Dims("credit", 1, "cores", 5, 1)
TOO_MUCH = 100_000


def grouped(steps: str = "", clause: str = '"E1.cap"') -> scenario.Scenario:
    """A master at 50 % and a member, both busy; operations and a clause in the last phase."""
    return scenario.parse(GROUPED % (steps, clause), Path("grouped.toml"))


def off(
    what: scenario.Scenario,
    more_ns: int,
    *,
    own: bool = False,
    dims: Dims = DIMS,
    span_ns: int = 0,
    label: str = "p/1",
    domain: str = "b",
) -> set[str]:
    """The clauses that fail when so much more is used (or accounted for) in the last phase."""

    def distort(raw: Raw) -> None:
        for name in ("p/0", "p/1"):
            sample(raw, name)["span_ns"] = span_ns
        if own:
            add_usage(raw, label, more_ns)
        else:
            add_cpu(raw, label, domain, more_ns)

    checks = judged(distort, what=what, dims=dims).checks
    failed = {check.clause for check in checks if check.verdict != Verdict.PASS}
    return failed - {"stats"}


def edge(what: scenario.Scenario, clause: str, edge_ns: int, **words: Any) -> None:
    """Up to the edge the clause holds, beyond it does not, on either side."""
    for sign in (1, -1):
        assert clause not in off(what, sign * (edge_ns - TOO_MUCH), **words)
        assert clause in off(what, sign * (edge_ns + TOO_MUCH), **words)


def test_cap_at_once() -> None:
    """Half a percent of 50 % in 1 s is 2.5 ms; at 5 % the overrun of the two units that can run at
    once is more, and of one where there is one pCPU.
    """
    edge(grouped(), "E1.cap", 2_500_000)
    text = (GROUPED % ("", '"E1.cap"')).replace("cap = 50", "cap = 5")
    small = scenario.parse(text, Path("small.toml"))
    edge(small, "E1.cap", 1_000_000)
    edge(small, "E1.cap", 500_000, dims=ONE)


def test_cap_of_who_waits() -> None:
    """Beside an outsider on one pCPU a turn of it is allowed more: 10 ms of the cap on credit2; on
    credit no more than the contract; and nothing where there is a pCPU for each.
    """
    text = GROUPED % ('do = [{ op = "start", domain = "o" }]', '"E1.cap"')
    text = text.replace("[[phase]]", '[[domain]]\nname = "o"\n[[phase]]', 1)
    beside = scenario.parse(text, Path("beside.toml"))
    edge(beside, "E1.cap", 2_500_000 + 5_000_000, dims=ONE)
    edge(beside, "E1.cap", 10_000_000 + 500_000, dims=CREDIT)
    edge(beside, "E1.cap", 2_500_000 + 5_000_000, dims=Dims("credit2", 2, "cores", 5, 1))
    edge(beside, "E1.cap", 2_500_000, dims=Dims("credit2", 3, "cores", 5, 1))
    edge(grouped(), "E1.cap", 2_500_000, dims=ONE)


def test_cap_of_who_sleeps() -> None:
    """Where one that runs does not always want to, the contract's own period is allowed."""
    sleeps = 'name = "b"\nworkload = "sleeper"\nguest = { period = "9ms", run = "1ms" }\n'
    text = (GROUPED % ("", '"E1.cap"')).replace('name = "b"\n', sleeps, 1)
    edge(scenario.parse(text, Path("sleeps.toml")), "E1.cap", 11_000_000)
    paused = text.replace('name = "p"\n', 'name = "p"\ndo = [{ op = "pause", domain = "b" }]\n')
    edge(scenario.parse(paused, Path("paused.toml")), "E1.cap", 2_500_000)


def test_cap_span() -> None:
    """What can run while a sample is read is allowed, for both units and both samples, to what is
    read then; the group's own account is of an instant.
    """
    edge(grouped(), "E1.cap", 2_500_000 + 4 * 700_000, span_ns=700_000)
    edge(grouped(), "E1.cap", 2_500_000, span_ns=700_000, own=True)


def test_at_once_counts_who_can_run() -> None:
    """vCPUs that are up, on pCPUs that the domain may use, of domains that run; dom0 has one."""
    text = """\
name = "units"
[matrix]
pcpus = [8]
[[domain]]
name = "a"
vcpus = 4
cap = 1
[[domain]]
name = "b"
vcpus = 4
[[phase]]
name = "p"
duration = "1s"
do = [{ op = "join", master = "a", member = "b" }, { op = "start", domain = "a" }%s]
show = ["a", "b"]
expect = [{ clause = "E1.upper", domains = ["a", "b"%s] }]
"""
    start = ', { op = "start", domain = "b" }'
    dom0 = ', { op = "join", master = "a", member = "dom0" }'
    for steps, domains, pcpus, units in (
        ("", "", 8, 4),
        (start, "", 8, 8),
        (start, "", 5, 5),
        (start + ', { op = "affinity", domain = "b", pcpus = [0, 1] }', "", 8, 6),
        (start + ', { op = "vcpus", domain = "b", vcpus = 3 }', "", 8, 7),
        (start + ', { op = "shutdown", domain = "a" }', "", 8, 4),
        (dom0, ', "dom0"', 8, 5),
    ):
        what = scenario.parse(text % (steps, domains), Path("units.toml"))
        checks = judged(what=what, dims=Dims("credit2", pcpus, "cores", 5, 1)).checks
        (reason,) = {check.reason for check in checks if check.clause == "E1.upper"}
        assert reason == f"aim: {units} x quantum 0.5 ms in 1 s", steps


def test_steady_bound() -> None:
    """The cap's period and a quantum a unit that can run at once; from the samples' edges on."""
    # From p's operations to its end: 1.1 s and the repetitions'; 50 % x 20 ms, and 2 units.
    edge(grouped(PAUSE, '"E3.steady"'), "E3.steady", 11_000_000, own=True)
    edge(grouped(PAUSE, '"E3.steady"'), "E3.steady", 10_500_000, own=True, dims=ONE)
    checks = judged(what=grouped(PAUSE, '"E3.steady"')).checks
    for check in checks:
        if check.clause == "E3.steady":
            assert (check.expected, check.measured) == (pytest.approx(50), pytest.approx(50))
            assert check.tolerance == pytest.approx(1_100_000_000 / check.span_ns)
    edge(grouped(PAUSE, '"E3.steady"'), "E3.steady", 11_000_000 + 2 * 450_000, span_ns=450_000)


def test_steady_takes_the_largest_cap() -> None:
    """Of the caps that were in force the larger one's period is allowed, whichever came first."""
    up = """do = [{ op = "cap", domain = "a", cap = 90 }]"""
    down = """do = [{ op = "cap", domain = "a", cap = 10 }]"""
    edge(grouped(up, '"E3.steady"'), "E3.steady", 19_000_000, own=True)
    # While it is carried out, a microsecond here, either cap may be in force.
    edge(grouped(down, '"E3.steady"'), "E3.steady", 11_000_000, own=True)
    edge(grouped(TO_AND_FRO, '"E3.steady"'), "E3.steady", 11_000_000, own=True)


def test_steady_outside() -> None:
    """What a member could use while it was outside is allowed above, and only there; to the group's
    own account it is allowed to be missing.
    """
    apart = """do = [
    { op = "leave", master = "a", member = "b" },
    { op = "join", master = "a", member = "b", at = "50ms" },
]"""
    what = grouped(apart, '"E3.steady"')
    # Ideally b gets all of a pCPU in its 50 ms, which is 50 ms above the cap's.
    assert "E3.steady" not in off(what, 10_900_000)
    assert "E3.steady" in off(what, 11_100_000)
    assert "E3.steady" not in off(what, -60_900_000)
    assert "E3.steady" in off(what, -61_100_000)
    # Of three that leave, only so many as there are pCPUs can have used it.
    assert "E3.steady" in off(grouped(CHURN, '"E3.steady"'), 11_300_000, dims=ONE)


@pytest.mark.parametrize(("dims", "turn_ns"), [(ONE, 10_000_000), (CREDIT, 30_000_000)])
def test_even_without_a_cap(dims: Dims, turn_ns: int) -> None:
    """Without a cap two domains may be apart by a turn; with one by a round of enforcement."""
    text = GROUPED % ("", '"E4.even"')
    capless = scenario.parse(text.replace("cap = 50\n", ""), Path("capless.toml"))

    def apart(what: scenario.Scenario, ns: int) -> bool:
        def distort(raw: Raw) -> None:
            add_cpu(raw, "p/1", "a", ns)
            add_cpu(raw, "p/1", "b", -ns)

        checks = judged(distort, what=what, dims=dims).checks
        return any(c.clause == "E4.even" and c.verdict == Verdict.FAIL for c in checks)

    one_round = grouped("", '"E4.even"')
    assert not apart(one_round, 10_400_000) and apart(one_round, 10_600_000)
    expected = max(0.02 * 50, turn_ns / 1e7)
    (tolerance,) = {
        round(check.tolerance, 3)
        for check in judged(lambda raw: halve(raw), what=capless, dims=dims).checks
        if check.clause == "E4.even"
    }
    assert tolerance == pytest.approx(expected)


def halve(raw: Raw) -> None:
    """Two domains on one pCPU."""
    for record in raw:
        for domain in record.get("domains", ()):
            domain["cpu_ns"] //= 2


def test_weight_override() -> None:
    """A tolerance of one's own, with its reason, is the one that counts."""
    clause = '"E2.weight", like = "solo", tolerance = 9, reason = "for the test"'
    edge(grouped("", clause), "E2.weight", 90_000_000)
    checks = judged(what=grouped("", clause), dims=CREDIT).checks
    (check,) = [c for c in checks if c.clause == "E2.weight"]
    assert check.reason == "for the test"


def test_weight_bound_says_what_is_due() -> None:
    """Two turns, one in either phase; on credit, what weight is worth stands beside it."""
    text = (GROUPED % ("", '"E2.weight", like = "solo"')).replace("cap = 50\n", "")
    text = text.replace('name = "b"\n', 'name = "b"\n[[domain]]\nname = "out"\n', 1)
    what = scenario.parse(text, Path("weights.toml"))
    (check,) = [c for c in judged(halve, what=what, dims=CREDIT).checks if c.clause == "E2.weight"]
    assert check.tolerance == pytest.approx(6) and "100.000 are due" in check.reason
    (check,) = [c for c in judged(halve, what=what, dims=ONE).checks if c.clause == "E2.weight"]
    assert check.tolerance == pytest.approx(2) and "are due" not in check.reason


def test_weight_of_one_percent() -> None:
    """In long phases a hundredth of the master's own share is more than two turns."""
    clause = '"E2.weight", like = "solo"'
    text = (GROUPED % ("", clause)).replace('duration = "1s"', 'duration = "10s"')
    edge(scenario.parse(text, Path("long.toml")), "E2.weight", 50_000_000, label="p/10")


def test_due_beside_another_group() -> None:
    """What is due beside a group, or one that has a cap or an affinity, is not known."""
    text = """\
name = "due"
[[domain]]
name = "a"
[[domain]]
name = "b"
[[domain]]
name = "c"
[[phase]]
name = "p"
duration = "1s"
do = [
    { op = "start", domain = "a" },
    { op = "start", domain = "b" },%s
]
"""
    for more, due in (
        ("", 50.0),
        ('{ op = "join", master = "a", member = "c" }', 50.0),
        ('{ op = "join", master = "b", member = "c" }', None),
        ('{ op = "cap", domain = "b", cap = 90 }', None),
        ('{ op = "cap", domain = "c", cap = 90 }', 50.0),
        ('{ op = "weight", domain = "b", weight = 768 }', 25.0),
        ('{ op = "pause", domain = "b" }', 100.0),
    ):
        what = scenario.parse(text % more, Path("due.toml"))
        assert oracle.due(what, CREDIT, what.phases[0], "a") == due, more


def use(cpu_ns: int | None) -> DomainUse:
    """A domain in a sample."""
    return DomainUse("a", 1, cpu_ns, "running", 0, ())


def at(t_ns: int, domains: dict[str, DomainUse]) -> Sample:
    """A sample."""
    return Sample(0, "x", t_ns, t_ns, 0, domains, ())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"a": use(5)}),
        ({"a": use(5)}, {}),
        ({"a": use(None)}, {"a": use(5)}),
        ({"a": use(5)}, {"a": use(None)}),
    ],
)
def test_share_of_who_is_not_there(
    before: dict[str, DomainUse], after: dict[str, DomainUse]
) -> None:
    """A domain that is not there at both ends has used nothing that is known."""
    assert oracle.share(at(0, before), at(100, after), ("a",)) == 0
    assert oracle.share(at(0, {"a": use(5)}), at(100, {"a": use(30)}), ("a",)) == 25


def stats(raw_of: Any, what: scenario.Scenario | None = None) -> list[Check]:
    """The checks on a group's statistics."""
    checks = judged(raw_of, what=what or grouped()).checks
    return [check for check in checks if check.clause == "stats"]


def test_stats_of_another_group() -> None:
    """They are of a group that is the same at both ends, and whose account went on."""

    def renamed(raw: Raw) -> None:
        for group in sample(raw, "p/1")["groups"]:
            group["domains"].reverse()

    def restarted(raw: Raw) -> None:
        for group in sample(raw, "p/1")["groups"]:
            group["usage_ns"] = 0

    def gone(label: str) -> Any:
        def distort(raw: Raw) -> None:
            sample(raw, label)["groups"] = []

        return distort

    assert len(stats(lambda raw: None)) == 10
    for distort in (renamed, restarted, gone("p/0"), gone("p/1")):
        assert stats(distort) == []


def test_own_account_of_a_group_that_was_made_anew() -> None:
    """An account that starts again is no measure of the phase."""

    def restarted(raw: Raw) -> None:
        for group in sample(raw, "p/1")["groups"]:
            group["usage_ns"] = 0

    where = {check.where for check in judged(restarted, what=grouped()).checks}
    assert "whole" in where and "whole, usage_ns" not in where


def test_stats_where_nothing_is_scarce() -> None:
    """A cap that all units together cannot reach throttles nobody, and need not."""
    text = (GROUPED % ("", '"E1.cap"')).replace("cap = 50", "cap = 200")
    text = text.replace('name = "a"\n', 'name = "a"\nvcpus = 2\n', 1)
    what = scenario.parse(text, Path("plenty.toml"))

    def distort(raw: Raw) -> None:
        for record in raw:
            for group in record.get("groups", ()):
                for one in (group, *group["domains"]):
                    one["nr_throttled"] = one["throttled_ns"] = 0

    found = {check.where for check in stats(distort, what) if check.verdict == Verdict.FAIL}
    assert len(found) == 2  # on 4 pCPUs it is three units that 200 % is scarce for
    checks = judged(distort, what=what, dims=Dims("credit2", 2, "cores", 5, 1)).checks
    assert {c.verdict for c in checks if c.clause == "stats"} == {Verdict.PASS}


def test_stats_of_who_sleeps() -> None:
    """A domain that does not always want to run has no more periods than the group, maybe fewer."""
    text = GROUPED % ("", '"E1.cap"')
    sleeps = 'name = "b"\nworkload = "sleeper"\nguest = { period = "9ms", run = "1ms" }\n'
    what = scenario.parse(text.replace('name = "b"\n', sleeps, 1), Path("sleeps.toml"))

    def periods(more: int) -> Any:
        def distort(raw: Raw) -> None:
            for group in sample(raw, "p/1")["groups"]:
                group["domains"][1]["nr_periods"] += more

        return distort

    def failed(more: int) -> set[str]:
        found = stats(periods(more), what)
        return {check.where for check in found if check.verdict == Verdict.FAIL}

    assert failed(-20) == set()
    assert failed(1) == {"b: no more periods than the group"}


def test_sides() -> None:
    """Where more is allowed on one side, the check has both, and the reason says both."""
    apart = """do = [
    { op = "leave", master = "a", member = "b" },
    { op = "join", master = "a", member = "b", at = "50ms" },
]"""
    judgement = judged(
        lambda raw: add_cpu(raw, "p/1", "b", 90_000_000), what=grouped(apart, '"E3.steady"')
    )
    (check,) = [c for c in judgement.checks if c.clause == "E3.steady"]
    assert check.below is not None
    outside = 50_000_000 + 1_000  # the operations take a microsecond each
    assert (check.tolerance - check.below) * check.span_ns / 100 == pytest.approx(outside, abs=2e3)
    said = judgement.reason
    assert f"+ {check.tolerance:.3f} - {check.below:.3f} (E3" in said


def test_words() -> None:
    """What a reason says where there is nothing to say, and where figures are words."""

    def forgotten(raw: Raw) -> None:
        sample(raw, "joined/3")["groups"] = []

    said = judged(forgotten).reason
    assert said == "joined: joined/3: expected master + second, got none"
    what = scenario.parse(
        """\
name = "counted"
[[domain]]
name = "a"
[[phase]]
name = "p"
duration = "1s"
do = [{ op = "domctl", cmd = "get", master = "a", room = 2, count = 3, errno = "ENOBUFS" }]
""",
        Path("counted.toml"),
    )
    said = judged(lambda raw: op(raw, "domctl").update(errno="ENOBUFS"), what=what).reason
    assert said == ("p: domctl with room for 2 at 0 s: expected 3 domains, 2 written, got none")
    assert judged(outcome=oracle.Outcome(0)).reason == "no verdict was ever seen"
    assert judged(outcome=oracle.Outcome(0, "killed")).reason == "killed"


def test_lab_fault_is_told_as_it_is() -> None:
    """A fault of the lab has its own words, not a clause's."""

    def late(raw: Raw) -> None:
        sample(raw, "joined/2")["t_ns"] += 150_000_000

    assert judged(late).reason == (
        "sample joined/2 was taken 150.000 ms late: dom0 did not get its CPU in time"
    )


def test_early_and_late_samples() -> None:
    """A tenth of the window is late; before its time is never right."""

    def moved(ns: int) -> Any:
        def distort(raw: Raw) -> None:
            sample(raw, "alone/1")["t_ns"] += ns

        return distort

    assert judged(moved(99_000_000)).verdict == Verdict.PASS
    assert judged(moved(101_000_000)).verdict == Verdict.ERROR
    assert judged(moved(-1)).verdict == Verdict.ERROR


def test_operation_at_the_edge() -> None:
    """One that is done the time to settle before the first window is in time."""
    joined = next(phase for phase in TEN.phases if phase.name == "joined")
    due_ns = joined.settled_ns - joined.settle_ns

    def until(ns: int) -> Any:
        def distort(raw: Raw) -> None:
            op(raw, "join")["done_ns"] = ns

        return distort

    assert judged(until(due_ns)).verdict == Verdict.PASS
    assert judged(until(due_ns + 1)).verdict == Verdict.ERROR


def test_plausible_bound() -> None:
    """A vCPU has a pCPU at most, and what can be read late; a tenth of a percent is drift."""

    def more(ns: int, span_ns: int = 0) -> Any:
        def distort(raw: Raw) -> None:
            sample(raw, "free/0")["span_ns"] = sample(raw, "free/1")["span_ns"] = span_ns
            add_cpu(raw, "free/1", "second", ns)

        return distort

    assert judged(more(900_000)).verdict == Verdict.PASS
    assert judged(more(1_100_000)).verdict == Verdict.ERROR
    assert judged(more(2_900_000, 1_000_000)).verdict == Verdict.PASS
    assert judged(more(3_100_000, 1_000_000)).verdict == Verdict.ERROR
