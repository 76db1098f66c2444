# SPDX-License-Identifier: GPL-2.0-only
"""The page of ``lab bench``: from bench.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from schedlab import stats
from schedlab.page.document import Document, Facts, Figure, Heading, Listing, Table, Text
from schedlab.page.svg import Chart, Linear, Log, Names
from schedlab.qemu import KVM

_ALONE = "/alone"
_MEMBERS = "/members"


def page(found: Mapping[str, Any]) -> Document:
    """The whole."""
    benchmarks, counted = found["benchmarks"], found["schedule"]
    real = found["context"]["accelerator"] == KVM
    lead = _REAL if real else _lead(1000 / 2 ** found["context"]["shift"])
    document = Document("What operations cost", lead, processor=found["context"].get("processor"))
    unit = "us" if real else "instructions"
    document.add(Facts(tuple(_facts(benchmarks, unit))))
    document.add(Heading("Domctls by the size of the group"), *_by_members(benchmarks, unit))
    if counted:
        document.add(Heading("schedule() by runnable vCPUs and groups"), *schedule(counted))
    document.add(*_against_stock(benchmarks, unit))
    document.add(Heading("Every figure"), _real_table(benchmarks) if real else _table(benchmarks))
    context, hashes = _context(found["context"])
    document.add(Heading("Context"), Listing(context), hashes)
    return document


_REAL = (
    "Google Benchmark in dom0, on one pCPU, under KVM: real time, of this host and as noisy as it "
    "is, with dom0's kernel and libxenctrl in it. Figures are medians of several runs, each on a "
    "machine of its own."
)


def _lead(mips: float) -> str:
    return (
        "Google Benchmark in dom0, on one pCPU of an otherwise idle host. Time is the count of "
        f"instructions ({mips:g} million a virtual second), so a figure is exact and repeatable, "
        "and holds what dom0's kernel and libxenctrl execute for the call, too. There are no "
        "caches and no pipeline in it: it is work, not time on hardware."
    )


def _value(benchmark: Mapping[str, Any], unit: str) -> float:
    return float(benchmark["time_ns"] / 1e3 if unit == "us" else benchmark["instructions"])


def _one(
    benchmarks: Sequence[Mapping[str, Any]], wanted: tuple[str, str, str, int], unit: str
) -> float | None:
    for b in benchmarks:
        if (b["scheduler"], b["variant"], b["name"], b["members"]) == wanted:
            return _value(b, unit)
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
                n: [(b["members"], _value(b, unit)) for b in mine if b["name"] == n] for n in chosen
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


def _against_stock(benchmarks: Sequence[Mapping[str, Any]], unit: str) -> list[Heading | Table]:
    """What is on both hypervisors; where time is real, with the chance of such a difference."""
    both: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for b in benchmarks:
        if not b["members"]:
            both.setdefault((b["scheduler"], _plain(b["name"])), {})[b["variant"]] = b
    rows = []
    for (scheduler, name), found in both.items():
        if len(found) == 2:
            stock, patched = (_value(found[v], unit) for v in ("stock", "patched"))
            change = 100 * (patched - stock) / stock
            times = [list(found[v].get("times_ns", ())) for v in ("stock", "patched")]
            enough = min(map(len, times)) >= stats.LEAST_RUNS
            p = stats.permutation_test(times[0], times[1]) if enough else None
            rows.append((scheduler, name, stock, patched, change, p))
    if not rows:
        return []
    columns = ("scheduler", "operation", f"stock, {unit}", f"patched, {unit}", "difference, %")
    said = "Of domains in no group."
    if any(row[-1] is not None for row in rows):
        said += " p: how often chance makes a difference of the means as large (permutation test)."
        table = Table((*columns, "p"), tuple(rows), said)
    else:
        table = Table(columns, tuple(row[:-1] for row in rows), said, digits=2)
    return [Heading("Patched against stock"), table]


def _plain(name: str) -> str:
    return name.removesuffix(_MEMBERS).removesuffix(_ALONE)


def _table(benchmarks: Sequence[Mapping[str, Any]]) -> Table:
    columns = ("scheduler", "Xen", "operation", "members", "us", "instructions")
    rows = tuple(
        (
            *(b["scheduler"], b["variant"], _plain(b["name"])),
            *(b["members"], b["time_ns"] / 1e3, b["instructions"]),
        )
        for b in benchmarks
    )
    return Table(columns, rows, _ZERO, digits=1)


def _real_table(benchmarks: Sequence[Mapping[str, Any]]) -> Table:
    columns = ("scheduler", "Xen", "operation", "members", "median, us", "least", "most", "n")
    rows = tuple(
        (
            *(b["scheduler"], b["variant"], _plain(b["name"]), b["members"], b["time_ns"] / 1e3),
            *(min(b["times_ns"]) / 1e3, max(b["times_ns"]) / 1e3, len(b["times_ns"])),
        )
        for b in benchmarks
    )
    return Table(columns, rows, _ZERO, digits=1)


_ZERO = "0 members: a domain in no group."


def _context(context: Mapping[str, Any]) -> tuple[tuple[tuple[str, str], ...], Table]:
    """All but the hashes, and those."""
    plain = tuple((name, str(value)) for name, value in context.items() if name != "hashes")
    hashes = tuple(
        (variant, what, str(digest))
        for variant, found in context["hashes"].items()
        for what, digest in found.items()
    )
    return plain, Table(("Xen", "input", "sha256"), hashes, "hashes of every input", folded=True)
