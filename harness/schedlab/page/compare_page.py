# SPDX-License-Identifier: GPL-2.0-only
"""The page of ``lab compare``: from compare.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from schedlab import compare
from schedlab.page import plots
from schedlab.page.document import Cell, Document, Facts, Figure, Heading, Listing, Table, Text
from schedlab.page.svg import Chart, Linear, Log, Names, Scale

_SHOWN = ("error", "worst", "uneven", "late", "share", "slices")
_MOST_LINES = 28
_TITLES = {
    "error": "error of the cap, whole phase",
    "worst": "error of the cap, worst window",
    "uneven": "largest distance from an even split",
    "late": "delay from wake-up to running",
    "share": "share",
    "slices": "timeslices a second",
}


def page(found: Mapping[str, Any]) -> Document:
    """The whole."""
    a, b = found["a"]["text"], found["b"]["text"]
    rows = found["rows"]
    document = Document(
        f"{a} against {b}", _lead(found), processor=found["context"].get("processor")
    )
    document.add(Facts(tuple(_facts(found))))
    document.add(*_largest(rows, a, b))
    figures = [figure for metric in _SHOWN for figure in _figure(rows, metric, a, b)]
    document.add(Heading("Side by side"), *figures)
    document.add(Heading("Every row"), _table(rows, a, b), Heading("What is compared"))
    document.add(_metrics(found["metrics"]), Heading("Context"))
    document.add(Listing(tuple(_context(found))))
    return document


def _lead(found: Mapping[str, Any]) -> str:
    scenarios = ", ".join(dict.fromkeys(row["scenario"] for row in found["rows"]))
    exact = {
        "virtual": "Time is virtual: each figure is exact, and a difference is a difference.",
        "real": "Time is real: differences count where a permutation test says so.",
    }[found["context"]["time"]]
    a, b = found["a"]["text"], found["b"]["text"]
    return f"The same cases ({scenarios}) on A, {a}, and B, {b}. {exact}"


def _facts(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    regressions = found["regressions"]
    kind = "worse" if regressions else "better"
    facts = [(str(regressions), "rows in which B is worse, or missing", kind)]
    meaning = {
        compare.SAME: "rows are the same to the last digit",
        compare.DIFFERS: "differ, within the thresholds or without a better",
        compare.BETTER: "rows in which B is better",
        compare.WORSE: "rows in which B is worse",
        compare.UNLIKE: "have a group on one side alone: shown, not judged",
        compare.ONLY_A: "are on A only",
        compare.ONLY_B: "are on B only",
        compare.TWICE: "are there more than once",
        compare.TOO_FEW: "have too few runs to conclude from",
    }
    for status, count in found["counts"].items():
        facts.append((str(count), meaning[status], status if status in ("better", "worse") else ""))
    return facts


def _where(row: Mapping[str, Any]) -> str:
    dims = compare.short(plots.ordered(row["dims"].items()))
    return " ".join(part for part in (dims, row["phase"], "+".join(row["domains"])) if part)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _largest(rows: Sequence[Mapping[str, Any]], a: str, b: str) -> list[Heading | Table | Text]:
    judged = [row for row in rows if row["status"] in (compare.WORSE, compare.BETTER)]
    if not judged:
        return [Text("No row is better or worse beyond its thresholds.")]
    ranked = sorted(judged, key=lambda row: -abs(float(row["relative"] or 0)))
    table = Table(
        ("scenario", "where", "metric", f"A: {a}", f"B: {b}", "difference", "relative %", "status"),
        tuple(
            (
                *(row["scenario"], _where(row), row["metric"], _mean(row["a"]), _mean(row["b"])),
                row["difference"],
                None if row["relative"] is None else 100 * row["relative"],
                row["status"],
            )
            for row in ranked
        ),
        "Beyond both thresholds",
    )
    return [Heading("What got better, and what worse"), table]


def _figure(rows: Sequence[Mapping[str, Any]], metric: str, a: str, b: str) -> list[Figure]:
    """Two dots a row, and a line between them."""
    found = [
        row
        for row in rows
        if row["metric"] == metric and row["a"] and row["b"] and row["status"] != compare.UNLIKE
    ]
    found = sorted(found, key=lambda row: -abs(float(row["difference"])))[:_MOST_LINES][::-1]
    if not found:
        return []
    values = [v for row in found for v in (_mean(row["a"]), _mean(row["b"])) if v is not None]
    positive = [v for v in values if v > 0]
    spread = len(positive) == len(values) and max(values) > 50 * min(values)
    x: Scale = (
        Log(min(positive), max(positive)) if spread else Linear(min([0, *values]), max(values))
    )
    names = tuple(_where(row) for row in found)
    unit = compare.METRICS[metric].unit
    chart = Chart(
        *(_TITLES[metric], x, Names(names), unit, "", 420, 96 + 19 * len(found)),
        min(250, 16 + int(6.3 * max(len(name) for name in names))),
    )
    chart.name(0, f"A: {a}")
    chart.name(1, f"B: {b}")
    for place, row in enumerate(found):
        one, two = _mean(row["a"]), _mean(row["b"])
        assert one is not None and two is not None
        chart.line([(one, place), (two, place)], 7)
        says = f"{names[place]}: {one:.4g} → {two:.4g} {unit}"
        chart.dots([(one, place, says)], 0, 4)
        chart.dots([(two, place, says)], 1, 4)
    return [Figure(f"compare-{metric}", chart.render(), compare.METRICS[metric].meaning)]


def _table(rows: Sequence[Mapping[str, Any]], a: str, b: str) -> Table:
    columns = ("scenario", "machine", "phase", "domains", "metric", f"A: {a}", f"B: {b}")
    cells: list[tuple[Cell, ...]] = []
    for row in rows:
        cells.append(
            (
                *(row["scenario"], compare.short(plots.ordered(row["dims"].items()))),
                *(row["phase"], " + ".join(row["domains"]), row["metric"]),
                *(_mean(row["a"]), _mean(row["b"]), row["difference"]),
                None if row["relative"] is None else 100 * row["relative"],
                *(row["p"], row["status"]),
            )
        )
    return Table((*columns, "difference", "relative %", "p", "status"), tuple(cells))


def _metrics(metrics: Mapping[str, Mapping[str, Any]]) -> Table:
    return Table(
        ("metric", "unit", "better", "absolute threshold", "relative threshold", "meaning"),
        tuple(
            (name, m["unit"], m["better"], float(m["floor"]), float(m["relative"]), m["meaning"])
            for name, m in metrics.items()
        ),
        "Better or worse is what passes both thresholds.",
        digits=2,
    )


def _context(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    entries = [(name, str(value)) for name, value in found["context"].items()]
    for name in ("a", "b"):
        entries += [(f"{name.upper()} {key}", str(value)) for key, value in found[name].items()]
    return entries
