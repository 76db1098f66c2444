# SPDX-License-Identifier: GPL-2.0-only
"""One screen about many cases: how many went how, and how near to what is allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from schedlab.oracle import WITNESS, Check, Verdict

if TYPE_CHECKING:
    from schedlab.accept import Result

SHOWN = 10
# Of failures; the others are in the file of results.
FAILURES = 10
_WIDTH = 110
# Shorter windows are held against the contract, not against the aim for 1 s (DESIGN.md, 4).
_SECOND_NS = 900_000_000


@dataclass(frozen=True)
class Error:
    """How far a check's measure was off, on the side that counts."""

    case: str
    check: Check
    off: float

    @property
    def used(self) -> float:
        """Of what is allowed."""
        return abs(self.off) / self.check.tolerance

    @property
    def of_cap(self) -> float:
        """Percent of what is expected."""
        assert not isinstance(self.check.expected, str)
        return 100.0 * self.off / self.check.expected

    def place(self) -> str:
        """Where it is."""
        return f"{self.case} {self.check.phase}, {self.check.where}: {self.check.clause}"


def errors(results: Iterable[Result]) -> list[Error]:
    """Of all checks that have figures."""
    found = []
    for result in results:
        for check in result.checks:
            expected, measured = check.expected, check.measured
            if isinstance(expected, str) or isinstance(measured, str) or not check.span_ns:
                continue
            off = measured - expected
            if check.clause == "E1.upper":
                off = max(0.0, off)
            elif check.clause == "E1.lower":
                off = min(0.0, off)
            if check.tolerance > 0:
                found.append(Error(result.item.name, check, off))
    return found


def _worst(found: Iterable[Error], by: Callable[[Error], float]) -> list[Error]:
    """The worst of each case, worst first."""
    each: dict[str, Error] = {}
    for error in found:
        known = each.get(error.case)
        if known is None or by(error) > by(known):
            each[error.case] = error
    return sorted(each.values(), key=by, reverse=True)[:SHOWN]


def page(
    results: Sequence[Result],
    ledger: str,
    wall_s: float,
    jobs: int,
    seeds: int | None,
    final: Path,
    folder: Path,
) -> str:
    """The summary; paths are given as they will be below ``final``."""
    found = errors(results)
    judged = [error for error in found if error.check.clause != WITNESS]
    known = sum(result.cached for result in results)
    wall = sum(result.wall_s for result in results if not result.cached)
    cpu = sum(result.cpu_s for result in results)
    counts = {v: sum(result.verdict == v for result in results) for v in Verdict}
    out = [
        f"{len(results)} cases, {known} of them known; {wall_s:.1f} s with {jobs} at once "
        f"({wall:.1f} s of machines; measured from nothing, {cpu:.1f} s of CPU time)",
        "  ".join(f"{v.word} {counts[v]}" for v in Verdict),
    ]
    if judged:
        out += [
            "",
            *_table(
                ("nearest to what is allowed, each case's worst", "off %", "allowed %", "used %"),
                [
                    (
                        error.place(),
                        f"{error.off:+.3f}",
                        f"{error.check.tolerance:.3f}",
                        f"{100 * error.used:.0f}",
                    )
                    for error in _worst(judged, lambda error: error.used)
                ],
            ),
        ]
        caps = [e for e in judged if e.check.clause.startswith("E1.")]
        caps = [e for e in caps if e.check.span_ns >= _SECOND_NS]
        out += _table(
            ("farthest from the cap, over 1 s or more", "% of it", "allowed"),
            [
                (
                    error.place(),
                    f"{error.of_cap:+.2f}",
                    f"{error.of_cap / error.off * error.check.tolerance if error.off else 0:.2f}",
                )
                for error in _worst(caps, lambda error: abs(error.of_cap))
            ],
        )
    witnesses = [error for error in found if error.check.clause == WITNESS]
    if witnesses:
        far = max(witnesses, key=lambda error: abs(error.off))
        near = max(witnesses, key=lambda error: error.used)
        out.append(
            f"witnesses differ by {abs(far.off):.2f} % of a pCPU at most ({far.case}, "
            f"{' '.join(far.check.domains)}); by {100 * near.used:.0f} % of what is allowed "
            f"({near.case})"
        )
    if seeds is not None:
        out += _by_seed(results, judged)
    out.append(f"ledger: {ledger}")
    bad = [result for result in results if result.verdict > Verdict.SKIP]
    for result in sorted(bad, key=lambda result: -result.verdict)[:FAILURES]:
        lines = result.reason.split("\n")
        out.append("")
        out.append(f"{result.verdict.word}: {result.item.name}: {lines[0]}")
        out += [f"  {line}" for line in lines[1:7]]
        if len(lines) > 7:
            out.append(f"  … {len(lines) - 7} lines more")
        if result.folder is not None:
            out.append(f"  left: {final / result.folder.relative_to(folder)}")
        out.append(f"  again: {result.item.again()}")
    if len(bad) > FAILURES:
        out.append(f"… and {len(bad) - FAILURES} more: accept.json")
    return "\n".join(out)


def _by_seed(results: Sequence[Result], judged: Sequence[Error]) -> list[str]:
    """What the seeds of a case made of it."""
    most: dict[str, float] = {}
    for error in judged:
        most[error.case] = max(most.get(error.case, 0.0), error.used)
    cells: dict[str, list[tuple[float, int]]] = {}
    for result in results:
        dims = result.item.dims
        name = result.item.name.removesuffix(f"-seed{dims.seed}")
        if result.item.name in most:
            cells.setdefault(name, []).append((most[result.item.name], dims.seed))
    lines = []
    for name, used in sorted(cells.items(), key=lambda cell: -max(cell[1])[0])[:SHOWN]:
        top, seed = max(used, key=lambda one: (one[0], -one[1]))
        figures = (min(used)[0], median(one for one, _ in used), top)
        lines.append((name, *(f"{100 * one:.0f}" for one in figures), str(seed)))
    return _table(
        ("what seeds use of what is allowed, %", "least", "median", "worst", "seed"), lines
    )


def _table(head: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns, the first to the left."""
    rows = [head, *(("  " + _cut(first), *others) for first, *others in lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, len(row)))])
        for row in rows
    ]


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
