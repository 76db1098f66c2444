# SPDX-License-Identifier: GPL-2.0-only
"""The page of ``lab bench``: from bench.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from schedlab.page.document import (
    Document,
    Facts,
    Figure,
    Heading,
    Listing,
    Table,
    Text,
    of_no_worth,
)
from schedlab.page.svg import Chart, Linear, Log, Names
from schedlab.qemu import KVM

_ALONE = "/alone"
_MEMBERS = "/members"


def page(found: Mapping[str, Any]) -> Document:
    """The whole."""
    benchmarks, counted = found["benchmarks"], found["schedule"]
    real = found["context"]["accelerator"] == KVM
    mips = 1000 / 2 ** found["context"]["shift"]
    document = Document("What operations cost", _REAL if real else _lead(mips))
    unit = "ns" if real else "instructions"
    document.add(*of_no_worth(found["context"]), Facts(tuple(_facts(benchmarks, unit))))
    document.add(Heading("Domctls by the size of the group"), *_by_members(benchmarks, unit))
    if counted:
        document.add(Heading("schedule() by runnable vCPUs and groups"), *schedule(counted))
    document.add(Heading("Every figure"), _table(benchmarks))
    document.add(Heading("Context"), Listing(tuple(_context(found["context"]))))
    return document


_REAL = (
    "Google Benchmark in dom0, on one pCPU, under KVM: real time, of this host and as noisy as it "
    "is, with dom0's kernel and libxenctrl in it."
)
# What a figure is, by its unit.
_KEY = {"ns": "time_ns", "instructions": "instructions"}


def _lead(mips: float) -> str:
    return (
        "Google Benchmark in dom0, on one pCPU of an otherwise idle host. Time is the count of "
        f"instructions ({mips:g} million a virtual second), so a figure is exact and repeatable, "
        "and holds what dom0's kernel and libxenctrl execute for the call, too. There are no "
        "caches and no pipeline in it: it is work, not time on hardware."
    )


def _one(
    benchmarks: Sequence[Mapping[str, Any]], wanted: tuple[str, str, str, int], unit: str
) -> float | None:
    for b in benchmarks:
        if (b["scheduler"], b["variant"], b["name"], b["members"]) == wanted:
            return float(b[_KEY[unit]])
    return None


def _schedulers(found: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(b["scheduler"] for b in found))


def _facts(benchmarks: Sequence[Mapping[str, Any]], unit: str) -> list[tuple[str, str, str]]:
    facts = []
    for scheduler in _schedulers(benchmarks):
        for name, text in (("scheddom_add", "join"), ("scheddom_get", "get")):
            few, many = (
                _one(benchmarks, (scheduler, "patched", name + _MEMBERS, n), unit) for n in (1, 64)
            )
            if few is not None and many is not None:
                what = f"{unit} a {text} with 1 and 64 members, {scheduler}"
                facts.append((f"{few:,.0f} → {many:,.0f}", what, ""))
        pong = [
            _one(benchmarks, (scheduler, v, "ping_pong", 0), unit) for v in ("stock", "patched")
        ]
        if pong[0] is not None and pong[1] is not None:
            what = f"{unit} a round trip by event channel, stock → patched, {scheduler}"
            facts.append((f"{pong[0]:,.0f} → {pong[1]:,.0f}", what, ""))
    return facts


def _by_members(benchmarks: Sequence[Mapping[str, Any]], unit: str) -> list[Figure]:
    figures = []
    for scheduler in _schedulers(benchmarks):
        mine = [b for b in benchmarks if b["scheduler"] == scheduler and b["variant"] == "patched"]
        names = list(dict.fromkeys(b["name"] for b in mine if b["name"].endswith(_MEMBERS)))
        for what, chosen in (
            ("operations on groups", [n for n in names if n.startswith("scheddom")]),
            ("the domctls that were there", [n for n in names if not n.startswith("scheddom")]),
        ):
            points = {
                n: [(b["members"], b[_KEY[unit]]) for b in mine if b["name"] == n] for n in chosen
            }
            if not points:
                continue
            values = [y for found in points.values() for _, y in found]
            sizes = [x for found in points.values() for x, _ in found]
            chart = Chart(
                f"{scheduler}: {what}",
                Log(min(sizes), max(sizes)),
                Log(min(values), max(values)),
                "members",
                unit,
            )
            for k, n in enumerate(points):
                chart.name(k, n.removesuffix(_MEMBERS), "")
            for k, (n, found) in enumerate(points.items()):
                chart.line(found, k)
                chart.dots([(x, y, f"{n} {x}: {y:,.0f}") for x, y in found], k)
            figures.append(Figure(f"bench-{scheduler}-{what.split()[0]}", chart.render()))
    return figures


def schedule(counted: Sequence[Mapping[str, Any]]) -> list[Figure | Table | Text]:
    """schedule() by what it had to choose from; stock beside patched."""
    out: list[Figure | Table | Text] = []
    for scheduler in _schedulers(counted):
        mine = [s for s in counted if s["scheduler"] == scheduler]
        names = tuple(
            f"{s['burners']} busy" + (f", {s['groups']} groups" if s["groups"] else "")
            for s in mine
            if s["variant"] == "patched"
        )
        rows = [s for s in mine if s["variant"] == "patched"]
        chart = Chart(
            *(f"{scheduler}: schedule() that switches", Linear(0, max(s["median"] for s in mine))),
            Names(tuple(reversed(names))),
            "instructions, median",
            left=130,
            height=90 + 26 * len(rows),
        )
        chart.name(0, "patched")
        chart.name(7, "stock")
        for k, s in enumerate(reversed(rows)):
            chart.box((0, s["median"]), (k, k + 0.36), "fill c0", f"{s['median']:g}")
            for t in mine:
                same = (t["burners"], t["groups"]) == (s["burners"], s["groups"])
                if same and t["variant"] == "stock":
                    chart.box((0, t["median"]), (k - 0.36, k), "fill c7", f"{t['median']:g}")
        out.append(Figure(f"schedule-{scheduler}", chart.render()))
    columns = ("scheduler", "Xen", "busy vCPUs", "groups", "invocations", "least", "median")
    keys = ("scheduler", "variant", "burners", "groups", "invocations", "least", "median")
    rows_of = tuple(tuple(s[key] for key in keys) for s in counted)
    out.append(Text("Instructions of the schedulers and their core alone, counted by QEMU."))
    out.append(Table(columns, rows_of, digits=1))
    return out


def _table(benchmarks: Sequence[Mapping[str, Any]]) -> Table:
    columns = ("scheduler", "Xen", "operation", "members", "us", "instructions")
    rows = tuple(
        (
            *(b["scheduler"], b["variant"], b["name"].removesuffix(_MEMBERS).removesuffix(_ALONE)),
            *(b["members"], b["time_ns"] / 1e3, b["instructions"]),
        )
        for b in benchmarks
    )
    return Table(columns, rows, "0 members: a domain in no group.", digits=1)


def _context(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    out = []
    for name, value in context.items():
        if isinstance(value, dict):
            for variant, hashes in value.items():
                out += [(f"{variant} {what}", str(digest)) for what, digest in hashes.items()]
        else:
            out.append((name, str(value)))
    return out
