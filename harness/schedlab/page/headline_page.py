# SPDX-License-Identifier: GPL-2.0-only
"""The page of ``lab headline``, and the README's picture: from headline.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from schedlab import stats
from schedlab.page import bench_page, plots
from schedlab.page.document import Cell, Document, Facts, Figure, Heading, Listing, Table, Text
from schedlab.page.svg import Chart, Linear, Log, Names

Row = Mapping[str, Any]
# Below this an error is drawn at the lower end: it is a few hundred ns of a second.
_LEAST = 0.001
_STOCK, _PATCHED = "stock", "patched"


def page(found: Mapping[str, Any]) -> Document:
    """The whole."""
    rows, linux = found["rows"], found["linux"]
    document = Document("Scheduling domains: what they are worth", _LEAD)
    document.add(
        Facts(tuple(_facts(rows, linux))), Figure("headline", picture(found), _DOTS, wide=True)
    )
    if linux.get("skipped"):
        document.add(Text(f"Linux cgroups were skipped: {linux['skipped']}."))
    if linux.get("left_out"):
        document.add(Text(_LEFT_OUT + ", ".join(linux["left_out"]) + "."))
    document.add(*_broken(rows))
    document.add(Heading("Error of a cap"), *_caps(rows), _cap_table(rows, linux))
    document.add(Heading("Split between the group's domains"), *_splits(rows, linux))
    document.add(Heading("Wake-ups of a stub-like member while its master spins"), *_waits(rows))
    document.add(Heading("Growth, and the lab's own cost"), *_growth(rows), *_lab(rows, found))
    if found["schedule"]:
        document.add(Heading("What schedule() costs"), *bench_page.schedule(found["schedule"]))
    document.add(Heading("Context"), Listing(_context(found["context"])))
    return document


_LEAD = (
    "Groups of busy domains under one cap, against a single domain on stock and on patched Xen, "
    "and against busy processes under a CPU quota of Linux cgroups on the same host. Xen is "
    "measured in virtual time, exactly; Linux in real time, beside whatever else the host did."
)


_DOTS = f"A dot is a window; what is at or below {_LEAST} % is on the lowest line."
_LEFT_OUT = (
    "Left out, as this host was too busy for the quota to be what limited them (in brackets: in "
    "how many of the periods it was): processes "
)


def _key(row: Row) -> tuple[Any, ...]:
    return (row["scheduler"], row["pcpus"], row.get("cap"), row.get("domains"), row["variant"])


def _cap_rows(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row["study"] == "cap" and "window_errors" in row]


def _kinds(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Stock alone, patched alone, then groups by size."""
    sizes = sorted({row["domains"] for row in rows if row["domains"] > 1})
    kinds = [
        ("stock, alone", [r for r in rows if r["variant"] == _STOCK]),
        ("patched, alone", [r for r in rows if r["variant"] == _PATCHED and r["domains"] == 1]),
    ]
    kinds += [(f"group of {n}", [r for r in rows if r["domains"] == n]) for n in sizes]
    return [(name, found) for name, found in kinds if found]


def _columns(found: Mapping[str, Any]) -> list[tuple[str, list[Row]]]:
    """What is compared: by scheduler, and Linux."""
    rows = _cap_rows(found["rows"])
    columns = []
    for scheduler in dict.fromkeys(row["scheduler"] for row in rows):
        mine = [row for row in rows if row["scheduler"] == scheduler]
        columns += [(f"{scheduler}\n{name}", chosen) for name, chosen in _kinds(mine)]
    for count in sorted({row["processes"] for row in found["linux"]["rows"]}):
        chosen = [row for row in found["linux"]["rows"] if row["processes"] == count]
        columns.append((f"Linux\n{count} proc.", chosen))
    return columns


def picture(found: Mapping[str, Any]) -> str:
    """Every window's error, by who had the cap: logarithmic, as they differ by orders."""
    columns = _columns(found)
    caps = sorted({row["cap"] for _, rows in columns for row in rows})
    errors = [abs(e) for _, rows in columns for row in rows for e in row["window_errors"]]
    chart = Chart(
        "Error of a cap in each window of 1 s: one domain, a group, Linux cgroups",
        Names(tuple("" for _ in columns) or ("",)),
        Log(_LEAST, max([1.0, *errors])),
        x_label=" ",
        y_label="% of the cap",
        width=1080,
        height=360,
    )
    for k, cap in enumerate(caps):
        chart.name(k, f"cap {cap:g} %")
    chart.name(7, "median", "")
    for place, (name, rows) in enumerate(columns):
        every = [max(_LEAST, abs(e)) for row in rows for e in row["window_errors"]]
        for k, cap in enumerate(caps):
            mine = [(row, e) for row in rows if row["cap"] == cap for e in row["window_errors"]]
            dots = []
            for n, (row, e) in enumerate(mine):
                x = place - 0.3 + 0.6 * (k + (n + 0.5) / len(mine)) / len(caps)
                who = f"{row['pcpus']} pCPUs, " if "pcpus" in row else ""
                says = f"{name.replace(chr(10), ', ')}, {who}cap {cap:g} %: {e:+.4f} % of the cap"
                dots.append((x, max(_LEAST, abs(e)), says))
            chart.dots(dots, k, 2.6)
        middle = stats.quantile(every, 0.5)
        chart.line([(place - 0.36, middle), (place + 0.36, middle)], 7)
        one, two = name.split("\n")
        chart.note(place, chart.bottom + 14, two)
        chart.note(place, chart.bottom + 27, one)
    return chart.render()


def _spread(rows: Sequence[Row]) -> tuple[float, float]:
    """95 % of the windows are within the first; the worst."""
    every = [abs(e) for row in rows for e in row["window_errors"]]
    return stats.quantile(every, 0.95), max(every)


def _facts(rows: Sequence[Row], linux: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    facts = []
    cap_rows = _cap_rows(rows)
    for scheduler in dict.fromkeys(row["scheduler"] for row in cap_rows):
        mine = [row for row in cap_rows if row["scheduler"] == scheduler]
        groups = [row for row in mine if row["domains"] > 1]
        stock = [row for row in mine if row["variant"] == _STOCK]
        if groups:
            text = f"largest error of a group in a window of 1 s, of the cap, {scheduler}"
            facts.append((f"{_spread(groups)[1]:.2f} %", text, "better"))
        if stock:
            text = f"the same of one domain on stock Xen, {scheduler}"
            facts.append((f"{_spread(stock)[1]:.2f} %", text, ""))
    if linux["rows"]:
        p95, most = _spread(linux["rows"])
        text = f"the same of Linux cgroups here (95 % of windows within {p95:.1f} %)"
        facts.append((f"{most:.1f} %", text, ""))
    return facts


def _broken(rows: Sequence[Row]) -> list[Text]:
    return [
        Text(f"{r['verdict']}: {r['study']} {r['scheduler']} {r['pcpus']} pCPUs: {r['reason']}")
        for r in rows
        if r["verdict"] not in ("pass", "skip")
    ]


def _caps(rows: Sequence[Row]) -> list[Figure]:
    """Over the whole 10 s: error by group size, a line a cap and number of pCPUs."""
    figures = []
    mine = _cap_rows(rows)
    for scheduler in dict.fromkeys(row["scheduler"] for row in mine):
        chosen = [row for row in mine if row["scheduler"] == scheduler]
        kinds = _kinds(chosen)
        values = [max(_LEAST, abs(row["whole_error"])) for row in chosen]
        chart = Chart(
            f"{scheduler}: error over 10 s",
            Names(tuple(name for name, _ in kinds)),
            Log(_LEAST, max([1.0, *values])),
            y_label="% of the cap",
            width=460,
        )
        lines = sorted({(row["cap"], row["pcpus"]) for row in chosen})
        for k, (cap, pcpus) in enumerate(lines):
            chart.name(k, f"cap {cap:g} %, {pcpus} pCPUs")
        for k, line in enumerate(lines):
            dots = []
            for place, (name, found) in enumerate(kinds):
                for row in found:
                    if (row["cap"], row["pcpus"]) == line:
                        error = row["whole_error"]
                        at = place - 0.15 + 0.3 * (k + 0.5) / len(lines)
                        dots.append((at, max(_LEAST, abs(error)), f"{name}: {error:+.4f} %"))
            chart.dots(dots, k, 4)
        figures.append(Figure(f"cap-{scheduler}", chart.render()))
    return figures


def _cap_table(rows: Sequence[Row], linux: Mapping[str, Any]) -> Table:
    cells: list[tuple[Cell, ...]] = []
    for row in sorted(_cap_rows(rows), key=lambda r: tuple(map(str, _key(r)))):
        p95, most = _spread([row])
        cells.append(
            (
                *(
                    row["scheduler"],
                    row["variant"],
                    row["pcpus"],
                    row["domains"],
                    _whole(row["cap"]),
                ),
                *(row["whole_error"], p95, most, _uneven(row)),
            )
        )
    for row in linux["rows"]:
        p95, most = _spread([row])
        who = (f"Linux cgroup v{linux['version']}", "-", None, row["processes"], row["cap"])
        cells.append((*who, row["whole_error"], p95, most, _uneven(row)))
    columns = ("scheduler", "Xen", "pCPUs", "domains", "cap %", "error over 10 s %")
    return Table(
        (*columns, "95 % of windows within %", "worst window %", "largest distance from even %"),
        tuple(cells),
        "Errors are relative to the cap; the distance is relative to an even part.",
    )


def _whole(value: float) -> Cell:
    return int(value) if value == int(value) else value


def _uneven(row: Row) -> float | None:
    parts = row["split"]
    if len(parts) < 2:
        return None
    even = sum(parts) / len(parts)
    return float(max(abs(part - even) for part in parts) / even * 100) if even else None


def _splits(rows: Sequence[Row], linux: Mapping[str, Any]) -> list[Figure | Text]:
    """Largest distance from even by group size, of groups and of Linux's processes."""
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        uneven = _uneven(row) if "split" in row else None
        if uneven is not None and row["study"] in ("cap", "members"):
            series.setdefault(row["scheduler"], []).append((float(row["domains"]), uneven))
    for row in linux["rows"]:
        uneven = _uneven(row)
        if uneven is not None:
            series.setdefault("Linux", []).append((float(row["processes"]), uneven))
    if not series:
        return [Text("No group was measured.")]
    sizes = [x for points in series.values() for x, _ in points]
    values = [y for points in series.values() for _, y in points]
    chart = Chart(
        "largest distance from an even part",
        Log(min(sizes), max(sizes)),
        Log(_LEAST, max([1.0, *values])),
        "domains (processes) in the group",
        "% of an even part",
        width=520,
    )
    for k, name in enumerate(series):
        chart.name(k, name)
    for k, (name, points) in enumerate(series.items()):
        dots = [(x, max(_LEAST, y), f"{name}, {x:g}: {y:.3f} %") for x, y in points]
        chart.dots(dots, k, 4)
    return [Figure("split", chart.render(), "Over 10 s (groups above 8: 2 s).")]


def _waits(rows: Sequence[Row]) -> list[Figure | Table | Text]:
    """Distribution of the stub's delays."""
    mine = [row for row in rows if "waits" in row]
    out: list[Figure | Table | Text] = []
    cells = []
    for scheduler in dict.fromkeys(row["scheduler"] for row in mine):
        series: list[tuple[str, Sequence[float]]] = []
        for row in mine:
            if row["scheduler"] != scheduler:
                continue
            for phase, waits in row["waits"].items():
                # Stock has no groups, so all its phases are the same.
                if not waits or (row["variant"] == _STOCK and phase != "apart"):
                    continue
                name = "stock, apart" if row["variant"] == _STOCK else f"patched, {phase}"
                series.append((name, [max(1.0, wait) for wait in waits]))
                quantiles = (stats.quantile(waits, part) for part in (0.5, 0.95, 1.0))
                cells.append((scheduler, name, len(waits), *quantiles))
        if series:
            chart = plots.distribution(f"{scheduler}: from wake-up to running", series, "us")
            out.append(Figure(f"waits-{scheduler}", chart.render()))
    if not out:
        return [Text("Not measured in this run.")]
    columns = ("scheduler", "case", "wake-ups", "median us", "95 % us", "longest us")
    note = (
        "From the hypervisor's trace: from each wake-up of the member to its running. It wakes "
        "each 10 ms for 0.2 ms; the master, capped at 50 %, is busy all the time."
    )
    return [*out, Table(columns, tuple(cells), note, digits=1)]


def _worst(row: Row) -> float:
    return _spread([row])[1]


def _wall(row: Row) -> float:
    return float(row["wall_s"] / row["virtual_s"])


def _growth(rows: Sequence[Row]) -> list[Figure]:
    figures = []
    for study, by, x_label in (
        ("pcpus", "pcpus", "pCPUs"),
        ("members", "domains", "domains in the group"),
    ):
        mine = [row for row in rows if row["study"] == study and "window_errors" in row]
        if not mine:
            continue
        for what, label, of in (
            ("error", "worst window, % of the cap", _worst),
            ("wall", "wall s a virtual s", _wall),
        ):
            series = {
                s: [(float(r[by]), max(_LEAST, of(r))) for r in mine if r["scheduler"] == s]
                for s in dict.fromkeys(r["scheduler"] for r in mine)
            }
            values = [y for points in series.values() for _, y in points]
            xs = [x for points in series.values() for x, _ in points]
            chart = Chart(
                f"{what} by {x_label}",
                Log(min(xs), max(xs)),
                Log(min(values), max(values)) if what == "error" else Linear(0, max(values)),
                x_label,
                label,
            )
            for k, name in enumerate(series):
                chart.name(k, name, "")
            for k, (name, points) in enumerate(series.items()):
                chart.line(sorted(points), k)
                chart.dots([(x, y, f"{name}, {x:g}: {y:.4g}") for x, y in points], k)
            figures.append(Figure(f"growth-{study}-{what}", chart.render()))
    return figures


def _lab(rows: Sequence[Row], found: Mapping[str, Any]) -> list[Table | Text]:
    lab = found["lab"]
    cells = tuple(
        (c["scheduler"], c["pcpus"], c["checkpoint_bytes"] / 2**20) for c in lab["checkpoints"]
    )
    wall = sum(r["wall_s"] for r in rows)
    virtual = sum(r["virtual_s"] for r in rows)
    text = (
        f"{len(rows)} cases, {virtual:.0f} virtual seconds, took {wall:.0f} s of wall time "
        f"({wall / virtual:.2f} s a virtual second) on a host that others used, too; the largest "
        f"QEMU had {lab['largest_qemu_bytes'] / 2**20:.0f} MiB."
    )
    columns = ("scheduler", "pCPUs", "checkpoint, MiB")
    return [Text(text), Table(columns, cells, "What is restored for each case", digits=1)]


def _context(context: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(value)) for name, value in context.items())
