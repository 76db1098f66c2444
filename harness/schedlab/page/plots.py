# SPDX-License-Identifier: GPL-2.0-only
"""The charts that several pages have, from cases as ``result.json`` has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from schedlab import compare
from schedlab.page import svg
from schedlab.page.svg import Chart, Exact, Linear, Log, Names

Case = Mapping[str, Any]
DOM0 = "dom0"


def machine(case: Case) -> str:
    """Scheduler, pCPUs, and what else is not usual."""
    return compare.short(ordered(compare.dimensions(case)))


def ordered(dims: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Scheduler and pCPUs first."""
    first = {"scheduler": 0, "pcpus": 1}
    return sorted(dims, key=lambda item: (first.get(item[0], 2), item[0]))


def windows(case: Case) -> list[tuple[float, float, dict[str, float], str]]:
    """(from s, to s, share of each domain, phase) of every window, from the raw samples."""
    found = []
    edges = compare.samples_by_phase(case)
    for phase, samples in edges.items():
        for one, two in zip(samples, samples[1:]):
            wide = two["t_ns"] - one["t_ns"]
            shares = {}
            for name, use in two["domains"].items():
                before = one["domains"].get(name, {}).get("cpu_ns")
                if use["cpu_ns"] is not None and before is not None:
                    shares[name] = 100.0 * (use["cpu_ns"] - before) / wide
            found.append((one["t_ns"] / 1e9, two["t_ns"] / 1e9, shares, phase))
    return found


def share_over_time(case: Case, title: str = "", *, width: int = 420) -> Chart:
    """Shares stacked, a step a window; phases marked, caps dotted.

    The axis is made for the caps, where there are any: what is above it is cut, and said.
    """
    found = windows(case)
    names = [n for n in dict.fromkeys(n for _, _, s, _ in found for n in s) if n != DOM0]
    names = [n for n in names if max(s.get(n, 0.0) for _, _, s, _ in found) >= 0.05]
    caps = sorted({row["cap_percent"] for row in case["rows"] if row["cap_percent"]})
    totals = [sum(s.get(n, 0.0) for n in names) for _, _, s, _ in found] or [1.0]
    most = min(max(totals), 1.7 * caps[-1]) if caps else max(totals)
    shares, time = Exact(0.0, most * 1.3), Exact(0.0, found[-1][1] if found else 1.0, 7)
    chart = Chart(title or machine(case), time, shares, "time, s", "% of a pCPU", width, 290)
    for k, name in enumerate(names):
        chart.name(k, name)
    for cap in caps:
        chart.name(7, f"cap {cap} %", "dash")
    for begin, stop, got, phase in found:
        at = 0.0
        for k, name in enumerate(names):
            share = got.get(name, 0.0)
            says = f"{phase}: {name} {share:.3f} %, {begin:.2f} to {stop:.2f} s"
            if share >= 0.05 and at < most:
                where = ((begin, stop), (at, min(at + share, most)))
                chart.box(*where, f"fill c{k % svg.COLOURS}", says)
            at += share
    phases = list(dict.fromkeys(phase for _, _, _, phase in found))
    for row, name in enumerate(phases):
        inside = [(a, b, s) for a, b, s, phase in found if phase == name]
        begin, stop = inside[0][0], inside[-1][1]
        chart.upright(begin)
        chart.upright(stop)
        total = sum(sum(s.get(n, 0.0) for n in names) for _, _, s in inside) / len(inside)
        # Neighbours' names would meet: they take turns.
        chart.note((begin + stop) / 2, chart.top + 10 + 12 * (row % 2), name)
        if total > most:
            chart.cut((begin + stop) / 2, most, f"↑{total:.0f}")
    for cap in caps:
        chart.across(cap)
    return chart


def delays(case: Case) -> list[tuple[str, list[float]]]:
    """(domain, mean delay in us of the wake-ups of each window), of those who slept."""
    found: dict[str, list[float]] = {}
    for samples in compare.samples_by_phase(case).values():
        for one, two in zip(samples, samples[1:]):
            for name, use in two["domains"].items():
                before = one["domains"].get(name, {}).get("guest", ())
                wakes, late = (
                    sum(b[key] - a[key] for a, b in zip(before, use["guest"]))
                    for key in ("wakes", "late_ns")
                )
                if wakes > 0:
                    found.setdefault(name, []).append(late / wakes / 1e3)
    return list(found.items())


def errors(cases: Sequence[Case], scheduler: str, by: str) -> Chart | None:
    """E1 in every window of every judged group: the error against the cap, and what is allowed.

    ``by``: the dimension (or what varies) that is the x axis.
    """
    places: dict[str, list[tuple[Any, Case, Mapping[str, Any]]]] = {}
    for case in cases:
        if case["dims"]["scheduler"] != scheduler:
            continue
        for check in case["checks"]:
            if check["clause"] != "E1.cap" or "usage_ns" in check["where"]:
                continue
            place = dict(compare.dimensions(case))[by] if by != "cap" else f"{check['expected']:g}"
            places.setdefault(place, []).append((place, case, check))
    if not places:
        return None
    names = sorted(places, key=lambda text: (len(text), text))
    if by == "cap" and len(names) == 1:
        return None
    points = [
        (k, 100 * (c["measured"] - c["expected"]) / c["expected"], case, c)
        for k, name in enumerate(names)
        for _, case, c in places[name]
    ]
    bands = []
    for k, name in enumerate(names):
        inside = [c for _, _, c in places[name] if c["where"].startswith("window")] or [
            c for _, _, c in places[name]
        ]
        allowed = max(100 * c["tolerance"] / c["expected"] for c in inside)
        bands.append((k, allowed))
    most = max([abs(y) for _, y, _, _ in points] + [b for _, b in bands])
    chart = Chart(
        *(f"{scheduler}: error of a group's cap", Names(tuple(names)), Linear(-most, most)),
        *({"pcpus": "pCPUs", "cap": "cap, % of a pCPU"}.get(by, by), "% of the cap"),
    )
    chart.name(0, "allowed (window)", "band")
    chart.name(0, "a window")
    chart.name(1, "whole phase")
    for k, allowed in bands:
        chart.band([(k - 0.4, -allowed, allowed), (k + 0.4, -allowed, allowed)])
    for whole in (False, True):
        chosen = [p for p in points if p[3]["where"].startswith("whole") == whole]
        by_place: dict[int, int] = {}
        total: dict[int, int] = {}
        for k, *_ in chosen:
            total[k] = total.get(k, 0) + 1
        dots = []
        for k, y, case, c in chosen:
            n = by_place.get(k, 0)
            by_place[k] = n + 1
            x = k - 0.3 + 0.6 * (n + 0.5) / total[k]
            says = f"{machine(case)} {c['phase']} {c['where']}: {y:+.3f} % of the cap"
            dots.append((x, y, says))
        chart.dots(dots, int(whole), 3.5 if whole else 2)
    return chart


def split(cases: Sequence[Case], phase: str) -> Chart | None:
    """How a group's time was divided, a bar a machine."""
    bars = []
    for case in cases:
        for row in case["rows"]:
            if row["phase"] == phase and row["grouped"] and len(row["split"]) > 1:
                bars.append((machine(case), row))
    if not bars:
        return None
    names = tuple(name for name, _ in reversed(bars))
    chart = Chart(
        *(f"split of the group in {phase}", Exact(0, 100, 4), Names(names), "% of the group's"),
        *("", 420, 70 + 24 * len(bars), 16 + int(6.6 * max(len(name) for name in names))),
    )
    for k, name in enumerate(bars[0][1]["domains"]):
        chart.name(k, name)
    for place, (name, row) in enumerate(reversed(bars)):
        at = 0.0
        for k, (domain, part) in enumerate(zip(row["domains"], row["split"])):
            where = ((at, at + part), (place - 0.36, place + 0.36))
            says = f"{name}: {domain} {part:.2f} %"
            chart.box(*where, f"fill c{k % svg.COLOURS}", says, f"{part:.1f}")
            at += part
    return chart


def distribution(
    title: str, series: Sequence[tuple[str, Sequence[float]]], x_label: str, *, log: bool = True
) -> Chart:
    """How many of the values are at most x: a line a series."""
    values = [v for _, found in series for v in found if v > 0]
    low, high = (min(values), max(values)) if values else (1.0, 10.0)
    x: svg.Scale = Log(low, max(high, low * 1.01)) if log else Linear(0.0, high)
    chart = Chart(title, x, Exact(0.0, 100.0, 5), x_label, "% at most this")
    for k, (name, _) in enumerate(series):
        chart.name(k, name, "")
    for k, (name, found) in enumerate(series):
        points: list[tuple[float, float]] = []
        ranked = sorted(found)
        for n, value in enumerate(ranked):
            points += [(value, 100 * n / len(ranked)), (value, 100 * (n + 1) / len(ranked))]
        chart.line(points, k)
    return chart
