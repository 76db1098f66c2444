# SPDX-License-Identifier: GPL-2.0-only
"""Records that are distorted, and what the oracle says of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from schedlab import oracle, records, scenario
from schedlab.oracle import Judgement
from schedlab.qemu import Outcome
from schedlab.scenario import Dims
from tests import synthetic

TEN = scenario.load(Path(__file__).parents[1] / "scenarios" / "ten_percent.toml")
DIMS = Dims("credit2", 4, "cores", 5, 1)
ENDED = Outcome(1)
Raw = list[dict[str, Any]]


def judged(
    distort: Callable[[Raw], object] = lambda raw: None,
    *,
    outcome: Outcome = ENDED,
    what: scenario.Scenario = TEN,
    groups: bool = True,
    dims: Dims = DIMS,
    real: bool = False,
) -> Judgement:
    """The judgement of ideal records after ``distort`` has had them."""
    raw: Raw = synthetic.records(json.loads(what.as_json(dims, groups=groups)))
    distort(raw)
    found = records.parse(synthetic.lines(raw).splitlines())
    return oracle.judge(what, dims, found, outcome, groups=groups, real=real)


def sample(raw: Raw, label: str) -> dict[str, Any]:
    """The raw sample of that label."""
    return next(r for r in raw if r["r"] == "sample" and r["label"] == label)


def op(raw: Raw, name: str) -> dict[str, Any]:
    """The first operation of that name."""
    return next(r for r in raw if r["r"] == "op" and r["op"] == name)


def add_cpu(raw: Raw, label: str, domain: str, more_ns: int) -> None:
    """Let a domain have used more from that sample on."""
    start = sample(raw, label)["t_ns"]
    for record in raw:
        if record["r"] == "sample" and record["t_ns"] >= start:
            for use in record["domains"]:
                if use["name"] == domain:
                    use["cpu_ns"] += more_ns


GROUPED = """\
name = "grouped"
[[domain]]
name = "a"
cap = 50
[[domain]]
name = "b"
[[phase]]
name = "solo"
duration = "1s"
do = [{ op = "start", domain = "a" }]
[[phase]]
name = "both"
duration = "1s"
do = [
    { op = "join", master = "a", member = "b" },
    { op = "start", domain = "b" },
]
[[phase]]
name = "p"
duration = "1s"
%s
show = ["a", "b"]
expect = [{ clause = %s }]
"""
CHURN = """do = [
    { op = "leave", master = "a", member = "b" },
    { op = "join", master = "a", member = "b" },
]
repeat = { times = 20, every = "20ms" }"""
PAUSE = """do = [
    { op = "pause", domain = "b" },
    { op = "unpause", domain = "b", at = "5ms" },
]
repeat = { times = 20, every = "20ms" }"""
TO_AND_FRO = """do = [
    { op = "cap", domain = "a", cap = 10 },
    { op = "cap", domain = "a", cap = 50, at = "10ms" },
]
repeat = { times = 20, every = "20ms" }"""
SHARES = """do = [
    { op = "share", master = "a", member = "a", weight = 768 },
]"""


def add_usage(raw: Raw, label: str, more_ns: int) -> None:
    """Let the group account for more from that sample on; no domain's own time moves."""
    start = sample(raw, label)["t_ns"]
    for record in raw:
        if record["r"] == "sample" and record["t_ns"] >= start:
            for group in record["groups"]:
                group["usage_ns"] += more_ns
