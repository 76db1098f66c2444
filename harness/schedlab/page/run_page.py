# SPDX-License-Identifier: GPL-2.0-only
"""The page of ``lab run``: from result.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from schedlab.page import plots
from schedlab.page.document import Document, Facts, Figure, Heading, Listing, Table, Text

# Charts over time, one a case: the rest is in the tables.
MOST_CASES = 12
# Checks that are not of figures: they are counted, and shown where one is not a pass.
_PLAIN = frozenset({"op", "groups", "lab", "witness"})


def page(result: Mapping[str, Any], pictures: Sequence[Figure] = ()) -> Document:
    """The whole; ``pictures`` come first among the charts."""
    cases = result["cases"]
    context = result["context"]
    document = Document(
        f"{result['scenario']}: {result['verdict']}",
        _lead(result),
        processor=context.get("processor"),
    )
    real = context.get("time") == "real"
    document.add(Facts(tuple(_facts(result))))
    document.add(*_wrong(cases))
    document.add(Heading("What happened"), *pictures, *_over_time(cases))
    document.add(*_errors(cases), *_splits(cases), *_delays(cases))
    document.add(Heading("Phases"), _rows(cases), Heading("Checks"), *_checks(cases))
    document.add(Heading("Context"), Text(_REAL if real else _SPEED))
    if not real:
        document.add(_speeds(cases))
    document.add(Listing(_flat(context)), *(_inputs(case) for case in cases))
    return document


_SPEED = (
    "Time is virtual: QEMU's count of instructions. All pCPUs share one stream of them, so with S "
    "pCPUs busy each runs 1/S of the instructions in a virtual second, and the hypervisor's own "
    "work looks S times larger. The same inputs give the same records to the byte."
)


_REAL = (
    "Time is real, by Xen's clock. Each case was run several times, cold, in turn with stock Xen "
    "where a phase has no group; a clause passes where its mean is shown to be within the "
    "tolerance, fails where it is shown to be outside (permutation test, 1 %), and is an error "
    "where neither is shown. Tables have means, charts over time the first run."
)


def _lead(result: Mapping[str, Any]) -> str:
    said = result["context"].get("description", "")
    where = ", ".join(dict.fromkeys(plots.machine(case) for case in result["cases"]))
    if len(where) > 160:
        where = f"{len(result['cases'])} machines"
    return f"{said[:1].upper()}{said[1:]}. On {where}." if said else f"On {where}."


def _facts(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    cases = result["cases"]
    checks = [c for case in cases for c in case["checks"]]
    passed = sum(c["verdict"] == "pass" for c in checks)
    facts = [
        (
            f"{passed} of {len(checks)}",
            f"checks passed, on {len(cases)} machines",
            result["verdict"],
        )
    ]
    caps = [c for c in checks if c["clause"] == "E1.cap" and "usage_ns" not in c["where"]]
    for whole, what in ((True, "whole phases"), (False, "windows")):
        found = [c for c in caps if c["where"].startswith("whole") == whole]
        if found:
            worst = max(found, key=_relative)
            kind = "pass" if all(c["verdict"] == "pass" for c in found) else "fail"
            text = f"largest error of a group's cap, of the cap, in {len(found)} {what}"
            facts.append((f"{_relative(worst):.3f} %", text, kind))
    parts: list[tuple[float, Mapping[str, Any]]] = [
        (max(row["split"]) - min(row["split"]), row)
        for case in cases
        for row in case["rows"]
        if row["grouped"] and len(row["split"]) > 1
    ]
    if parts:
        worst_row = max(parts, key=lambda item: item[0])[1]
        text = " : ".join(f"{part:.1f}" for part in worst_row["split"])
        facts.append((text, "the least even split of a group over a phase", ""))
    wall = sum(case["timing"]["wall_s"] for case in cases)
    virtual = sum(case["timing"]["virtual_s"] for case in cases)
    if "runs" in result["context"]:
        facts.append((str(result["context"]["runs"]), "runs of each case, in real time", ""))
    elif virtual:
        facts.append((f"{wall / virtual:.2f} s", "of wall time for a virtual second", ""))
    return facts


def _relative(check: Mapping[str, Any]) -> float:
    return float(100 * abs(check["measured"] - check["expected"]) / check["expected"])


def _wrong(cases: Sequence[Mapping[str, Any]]) -> list[Text]:
    return [
        Text(f"{case['verdict']}: {plots.machine(case)}: {case['reason']}")
        for case in cases
        if case["verdict"] not in ("pass", "skip")
    ]


def _over_time(cases: Sequence[Mapping[str, Any]]) -> list[Figure | Text]:
    shown = [case for case in cases if case["rows"]]
    found: list[Figure | Text] = [
        Figure(f"time-{case['name']}", plots.share_over_time(case).render())
        for case in shown[:MOST_CASES]
    ]
    if len(shown) > MOST_CASES:
        found.append(Text(f"{len(shown) - MOST_CASES} cases more are in the tables below."))
    return found


def _schedulers(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(case["dims"]["scheduler"] for case in cases))


def _errors(cases: Sequence[Mapping[str, Any]]) -> list[Heading | Figure]:
    figures = []
    for by in ("pcpus", "cap"):
        for scheduler in _schedulers(cases):
            chart = plots.errors(cases, scheduler, by)
            if chart is not None:
                text = f"error-{scheduler}-{by}"
                figures.append(Figure(text, chart.render(), "A dot is a judged stretch of a case."))
    return [Heading("Error of the cap"), *figures] if figures else []


def _splits(cases: Sequence[Mapping[str, Any]]) -> list[Heading | Figure]:
    phases = dict.fromkeys(row["phase"] for case in cases for row in case["rows"])
    figures = []
    for phase in phases:
        chart = plots.split(cases[:MOST_CASES], phase)
        if chart is not None:
            figures.append(Figure(f"split-{phase}", chart.render()))
    return [Heading("Who got what inside the group"), *figures[:6]] if figures else []


def _delays(cases: Sequence[Mapping[str, Any]]) -> list[Heading | Figure]:
    """A chart a case in which somebody slept: mean delay of the wake-ups of each window."""
    figures = []
    for case in cases:
        found = plots.delays(case)
        if found:
            title = f"{plots.machine(case)}: wake-ups"
            chart = plots.distribution(title, found, "mean delay in a window, us")
            figures.append(Figure(f"delay-{case['name']}", chart.render()))
    caption = [Heading("Delay from wake-up to running")] if figures else []
    return [*caption, *figures[:MOST_CASES]]


def _rows(cases: Sequence[Mapping[str, Any]]) -> Table:
    columns = ("machine", "phase", "domains", "cap %", "share %", "error %", "worst window %")
    rows = []
    for case in cases:
        stock = {row["phase"]: row for row in case["reference"] or ()}
        for row in case["rows"]:
            beside = stock.get(row["phase"])
            rows.append(
                (
                    *(plots.machine(case), row["phase"], " + ".join(row["domains"])),
                    *(row["cap_percent"] or None, row["share"], row["error"], row["worst_window"]),
                    " : ".join(f"{p:.1f}" for p in row["split"]) if len(row["split"]) > 1 else "",
                    None if beside is None or row["grouped"] else beside["share"],
                    row["verdict"] or "-",
                )
            )
    return Table(
        (*columns, "split", "stock %", "verdict"),
        tuple(rows),
        "Shares are CPU time over time, in percent of one pCPU; errors are relative to the "
        "cap. A phase without a group is Xen's own business and is not judged.",
    )


def _checks(cases: Sequence[Mapping[str, Any]]) -> list[Table | Text]:
    columns = ("machine", "clause", "phase", "where", "domains", "expected", "measured")
    rows = []
    counted: dict[str, int] = {}
    for case in cases:
        for c in case["checks"]:
            if c["clause"] in _PLAIN and c["verdict"] == "pass":
                counted[c["clause"]] = counted.get(c["clause"], 0) + 1
                continue
            rows.append(
                (
                    *(plots.machine(case), c["clause"], c["phase"], c["where"]),
                    *(" + ".join(c["domains"]), c["expected"], c["measured"], c["tolerance"]),
                    *(c["unit"], c["verdict"], c["reason"]),
                )
            )
    table = Table(
        (*columns, "tolerance", "unit", "verdict", "reason of the tolerance"),
        tuple(rows),
        f"{len(rows)} checks, with what was allowed and why",
        folded=True,
    )
    plain = ", ".join(f"{count} of {clause}" for clause, count in sorted(counted.items()))
    return [Text(f"Passed and not listed: {plain}."), table] if plain else [table]


def _speeds(cases: Sequence[Mapping[str, Any]]) -> Table:
    rows = tuple(
        (
            plots.machine(case),
            case["context"]["million_instructions_per_s"],
            case["context"]["million_instructions_per_s_per_busy_pcpu"],
            case["timing"]["virtual_s"],
            case["timing"]["wall_s"],
        )
        for case in cases
    )
    columns = ("machine", "million instructions/s", "… a busy pCPU", "virtual s", "wall s")
    return Table(columns, rows, "Effective speed", digits=2)


def _flat(context: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(value)) for name, value in context.items())


def _inputs(case: Mapping[str, Any]) -> Table:
    rows = tuple((name, str(value)) for name, value in case["context"].items())
    return Table(("input", "value"), rows, f"{case['name']}: hashes and command", folded=True)
