# SPDX-License-Identifier: GPL-2.0-only
"""Comparison: the same cases on two sides, paired by their dimensions.  Pure functions.

A side is a list of cases as ``result.json`` has them.  Each case gives values, each with a key:
scenario, dimensions, phase, domains, metric.  Values with the same key on both sides are a row; a
key that is on one side only, or twice on one side, is a row too, and never a silent loss.

Virtual time: one value a side, and a difference is a difference.  Real time: values of the same key
are runs of one thing, and a difference counts where a permutation test, the thresholds and the
number of runs say so.

A metric whose ``better`` is "lower" regresses where B is above A by more than ``floor`` (its own
unit) *and* by more than ``relative`` of A.  What was a pass on A and is not one on B regresses,
too, and so does what is missing from B.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from schedlab import matrix, stats

FORMAT = 1
# Chance may not be the reason with more than this probability.
SIGNIFICANT = 0.01
# Of the verdicts, the better first.
_RANK = {"pass": 0, "skip": 1, "fail": 2, "error": 3, "crash": 4}

SAME, DIFFERS, BETTER, WORSE = "same", "differs", "better", "worse"
ONLY_A, ONLY_B, TWICE = "only in A", "only in B", "duplicated"
# A group on one side alone: the figures stand side by side, and are not of the same thing.
UNLIKE = "not alike"
TOO_FEW = "too few runs"
# Rows that --fail-on-regression goes by.
REGRESSIONS = frozenset({WORSE, ONLY_A, TWICE})


@dataclass(frozen=True)
class Metric:
    """What is compared; thresholds as in the module's page."""

    name: str
    unit: str
    better: str  # lower, or neither
    floor: float
    relative: float
    meaning: str


METRICS = {
    one.name: one
    for one in (
        Metric(
            "verdict", "", "lower", 0, 0, "of the phase: pass 0, skip 1, fail 2, error 3, crash 4"
        ),
        Metric("share", "% of a pCPU", "neither", 0.01, 0, "CPU time over the phase's time"),
        Metric("error", "% of the cap", "lower", 0.1, 0.1, "|share - cap| over the whole phase"),
        Metric("worst", "% of the cap", "lower", 0.5, 0.1, "|share - cap| in the worst window"),
        Metric("uneven", "% of a part", "lower", 2.0, 0.1, "largest distance from an even part"),
        Metric("late", "us", "lower", 50.0, 0.1, "from a wake-up's time to the guest's running"),
        Metric("latest", "us", "lower", 500.0, 0.1, "the longest such delay of the phase's end"),
        Metric("slices", "1/s", "neither", 1.0, 0, "timeslices a second, as the guests saw them"),
    )
}


@dataclass(frozen=True)
class Key:
    """What a value is of; ``dims`` sorted by name."""

    scenario: str
    dims: tuple[tuple[str, str], ...]
    phase: str
    domains: tuple[str, ...]
    metric: str


@dataclass(frozen=True)
class Value:
    """One measured value; ``grouped``: of domains in a group."""

    key: Key
    value: float
    grouped: bool = False


@dataclass(frozen=True)
class Row:
    """A pair; ``relative`` is of A, None where A is 0; ``p`` of real time only."""

    key: Key
    a: tuple[float, ...]
    b: tuple[float, ...]
    status: str
    difference: float | None = None
    relative: float | None = None
    p: float | None = None

    @property
    def regression(self) -> bool:
        """Whether a CI should stop here."""
        return self.status in REGRESSIONS


def dimensions(case: Mapping[str, Any], ignore: Iterable[str] = ()) -> tuple[tuple[str, str], ...]:
    """A case's, as text, but those in ``ignore``; what varies has its own name."""
    dims = dict(case["dims"])
    vary = dims.pop("vary", ())
    dims.update({str(name): value for name, value in vary})
    return tuple(sorted((n, str(v)) for n, v in dims.items() if n not in {"variant", *ignore}))


def values(
    scenario: str, case: Mapping[str, Any], ignore: Iterable[str] = (), *, real_time: bool = False
) -> list[Value]:
    """All that a case has to compare; a case that did not run has its verdict alone.

    In real time each has one of the whole, so that runs which broke are counted on both sides.
    """
    dims = dimensions(case, ignore)
    found: list[Value] = []

    def add(
        row: Mapping[str, Any] | None, domains: Sequence[str], metric: str, value: float
    ) -> None:
        phase = row["phase"] if row else ""
        key = Key(scenario, dims, phase, tuple(domains), metric)
        # A stock hypervisor was not asked for the group that the scenario has there.
        grouped = bool(row and row["grouped"] and any(e["groups"] for e in edges.get(phase, ())))
        found.append(Value(key, value, grouped))

    edges = samples_by_phase(case)
    if real_time or not case["rows"]:
        add(None, (), "verdict", _RANK[case["verdict"]])
    for row in case["rows"]:
        names = row["domains"]
        add(row, names, "share", row["share"])
        if row["verdict"] is not None:
            add(row, names, "verdict", _RANK[row["verdict"]])
        if row["error"] is not None:
            add(row, names, "error", abs(row["error"]))
        if row["worst_window"] is not None:
            add(row, names, "worst", abs(row["worst_window"]))
        if len(row["split"]) > 1:
            even = 100.0 / len(row["split"])
            add(row, names, "uneven", max(abs(part - even) for part in row["split"]) / even * 100)
        for name in names:
            for metric, value in _guest(edges.get(row["phase"], []), name).items():
                add(row, (name,), metric, value)
    return found


def samples_by_phase(case: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """The samples of each phase, in order."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for sample in case["series"]:
        phase, slash, _ = sample["label"].rpartition("/")
        if slash:
            found.setdefault(phase, []).append(sample)
    return found


def _guest(edges: Sequence[Mapping[str, Any]], name: str) -> dict[str, float]:
    """What the guest itself saw in a phase: delays of its wake-ups, and timeslices."""
    if len(edges) < 2:
        return {}
    one, two = (edge["domains"][name]["guest"] for edge in (edges[0], edges[-1]))
    if not one or not two:
        return {}

    def grown(what: str) -> int:
        return sum(after[what] - before[what] for before, after in zip(one, two))

    found = {"slices": grown("slices") * 1e9 / (edges[-1]["t_ns"] - edges[0]["t_ns"])}
    if grown("wakes") > 0:
        found["late"] = grown("late_ns") / grown("wakes") / 1e3
        found["latest"] = max(after["longest_late_ns"] for after in two) / 1e3
    return found


def compare(a: Iterable[Value], b: Iterable[Value], *, real_time: bool = False) -> list[Row]:
    """Rows in the order in which their keys first appear, A's first."""
    sides = _by_key(a), _by_key(b)
    keys = dict.fromkeys([*sides[0], *sides[1]])
    judge: Callable[[Key, list[Value], list[Value]], Row] = _real if real_time else _virtual
    rows = []
    for key in keys:
        one, two = (side.get(key, []) for side in sides)
        if not one or not two:
            rows.append(_row(key, one, two, ONLY_A if one else ONLY_B))
        elif one[0].grouped != two[0].grouped:
            rows.append(_row(key, one, two, UNLIKE))
        else:
            rows.append(judge(key, one, two))
    return rows


def _by_key(found: Iterable[Value]) -> dict[Key, list[Value]]:
    by_key: dict[Key, list[Value]] = {}
    for one in found:
        by_key.setdefault(one.key, []).append(one)
    return by_key


def _row(key: Key, a: list[Value], b: list[Value], status: str, p: float | None = None) -> Row:
    one, two = (tuple(v.value for v in side) for side in (a, b))
    if not one or not two:
        return Row(key, one, two, status)
    before, after = fmean(one), fmean(two)
    relative = (after - before) / before if before else None
    return Row(key, one, two, status, after - before, relative, p)


def _virtual(key: Key, a: list[Value], b: list[Value]) -> Row:
    if len(a) > 1 or len(b) > 1:
        return _row(key, a, b, TWICE)
    one, two = a[0].value, b[0].value
    return _row(key, a, b, SAME if one == two else _direction(key, one, two))


def _real(key: Key, a: list[Value], b: list[Value]) -> Row:
    one, two = ([v.value for v in side] for side in (a, b))
    p = stats.permutation_test(one, two)
    if min(len(one), len(two)) < stats.LEAST_RUNS:
        return _row(key, a, b, TOO_FEW, p)
    if p > SIGNIFICANT:
        return _row(key, a, b, SAME, p)
    return _row(key, a, b, _direction(key, fmean(one), fmean(two)), p)


def _direction(key: Key, a: float, b: float) -> str:
    """better or worse where both thresholds are passed, else that it differs."""
    metric = METRICS[key.metric]
    beyond = abs(b - a) > metric.floor and abs(b - a) > metric.relative * abs(a)
    if metric.better != "lower" or not beyond:
        return DIFFERS
    return WORSE if b > a else BETTER


def counts(rows: Iterable[Row]) -> dict[str, int]:
    """How many of each status, the most first."""
    found: dict[str, int] = {}
    for row in rows:
        found[row.status] = found.get(row.status, 0) + 1
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def as_json(
    rows: Sequence[Row],
    sides: Mapping[str, Mapping[str, Any]],
    context: Mapping[str, Any],
) -> dict[str, Any]:
    """``compare.json``."""
    return {
        "format": FORMAT,
        "a": dict(sides["a"]),
        "b": dict(sides["b"]),
        "counts": counts(rows),
        "regressions": sum(row.regression for row in rows),
        "metrics": {name: asdict(metric) for name, metric in METRICS.items()},
        "rows": [
            {
                **asdict(row.key),
                "dims": dict(row.key.dims),
                **{k: v for k, v in asdict(row).items() if k != "key"},
            }
            for row in rows
        ],
        "context": dict(context),
    }


def table(rows: Iterable[Row], names: tuple[str, str] = ("A", "B")) -> str:
    """What is not the same, a line each; aligned."""
    lines = [("scenario", "dimensions", "phase", "domains", "metric", *names, "difference", "", "")]
    for row in rows:
        if row.status == SAME:
            continue
        key = row.key
        relative = "" if row.relative is None else f"{100 * row.relative:+.1f} %"
        difference = "" if row.difference is None else f"{row.difference:+.3f}"
        lines.append(
            (
                *(key.scenario, short(key.dims), key.phase, " + ".join(key.domains), key.metric),
                *(_shown(row.a), _shown(row.b), difference, relative, row.status),
            )
        )
    right = (5, 6, 7, 8)
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(w) if k in right else cell.ljust(w)
            for k, (cell, w) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    )


# As Dims.name(): what is usual is not said.
_USUAL = {
    **{"topology": "cores", "seed": "1", "kind": "pv"},
    **{"base": "4.17", "build": "release"},
}


def short(dims: Iterable[tuple[str, str]]) -> str:
    """Dimensions in a few words."""
    known = dict(dims)
    usual = {**_USUAL, "shift": str(matrix.usual_shift(int(known.get("pcpus", 1))))}
    shown = []
    for name, value in known.items():
        if usual.get(name) == value:
            continue
        shown.append({"scheduler": value, "pcpus": f"{value}p"}.get(name, f"{name} {value}"))
    return " ".join(shown)


def _shown(found: Sequence[float]) -> str:
    if not found:
        return "-"
    text = f"{fmean(found):.3f}"
    return text if len(found) == 1 else f"{text} (n={len(found)})"
