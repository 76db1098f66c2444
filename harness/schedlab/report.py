# SPDX-License-Identifier: GPL-2.0-only
"""Showing and keeping: the table on the terminal, and ``result.json``.  Nothing is judged here."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from schedlab import panic, qemu
from schedlab.oracle import Check, Row, Verdict
from schedlab.run import Case, hello_of

FORMAT = 1
RESULT_FILE = "result.json"
_TEMPORARY = ".tmp-"
# On an emulated host (kvmhost.py): the pid, on this machine, of who makes the run.
MAKER = "NEMESIS_MAKER"

_HEADINGS = (
    *("scheduler", "pCPUs", "phase", "domains", "cap %", "share %", "error %", "worst %"),
    *("split", "stock %", "verdict"),
)
_DEVICE_HEADINGS = (
    *("scheduler", "pCPUs", "phase", "driver", "requests", "per s"),
    *("median us", "p99 us", "worst us", "wrong"),
)
_LEFT = frozenset({"scheduler", "phase", "domains", "driver", "split", "verdict"})


def table(cases: Sequence[tuple[Case, Case | None]]) -> str:
    """A phase a row; each case with its reference on stock Xen, or None.

    Phases in which nothing is grouped are not judged: there stock Xen's figure stands beside ours.
    """
    lines: list[tuple[str, ...]] = [_HEADINGS]
    for case, reference in cases:
        stock = (
            {} if reference is None else {(r.phase, r.domains): r for r in reference.judgement.rows}
        )
        dims = case.dims
        for row in case.judgement.rows:
            beside = stock.get((row.phase, row.domains))
            lines.append(
                (
                    dims.scheduler,
                    str(dims.pcpus),
                    row.phase,
                    " + ".join(row.domains),
                    str(row.cap_percent) if row.cap_percent else "-",
                    f"{row.share:.3f}",
                    _signed(row.error),
                    _signed(row.worst_window),
                    _split(row),
                    "" if beside is None or row.grouped else f"{beside.share:.3f}",
                    "-" if row.verdict is None else row.verdict.word,
                )
            )
        if not case.judgement.rows:
            row_word = case.judgement.verdict.word
            lines.append((dims.scheduler, str(dims.pcpus), *[""] * 8, row_word))
    return "\n\n".join([_aligned(lines), *_devices(cases)])


def _devices(cases: Sequence[tuple[Case, Case | None]]) -> list[str]:
    """A table of what devices did, where there are any: a phase and driver a line.

    Latencies are those of requests for blocks, in us, each where its bucket ends (1/16 wide).
    """
    lines: list[tuple[str, ...]] = [_DEVICE_HEADINGS]
    for case, _ in cases:
        dims = case.dims
        told: set[tuple[str, str]] = set()
        for row in case.judgement.rows:
            for name, seen in row.traffic.items():
                if (row.phase, name) in told:
                    continue
                told.add((row.phase, name))
                latencies = (seen.median_ns, seen.p99_ns, seen.worst_ns)
                lines.append(
                    (
                        dims.scheduler,
                        str(dims.pcpus),
                        row.phase,
                        name,
                        str(seen.requests),
                        f"{seen.per_s:.1f}",
                        *("-" if ns is None else f"{ns / 1e3:.0f}" for ns in latencies),
                        str(seen.wrong),
                    )
                )
    return [_aligned(lines)] if len(lines) > 1 else []


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"


def _split(row: Row) -> str:
    return " : ".join(f"{part:.1f}" for part in row.split) if len(row.split) > 1 else ""


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    out = []
    for line in lines:
        cells = [
            cell.ljust(width) if heading in _LEFT else cell.rjust(width)
            for cell, width, heading in zip(line, widths, lines[0])
        ]
        out.append("  ".join(cells).rstrip())
    out.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(out)


def failures(cases: Iterable[Case]) -> list[str]:
    """What is wrong, a case an entry, with the log's place and its last lines where that helps."""
    out = []
    for case in cases:
        judgement = case.judgement
        if judgement.verdict <= Verdict.SKIP:
            continue
        text = f"{judgement.verdict.word}: {case.dims.name()}: {judgement.reason}"
        bad = [c for c in judgement.checks if c.verdict > Verdict.SKIP]
        if len(bad) > 1:
            text += f" (and {len(bad) - 1} more, see {RESULT_FILE})"
        if judgement.verdict >= Verdict.ERROR:
            log = case.folder / qemu.SERIAL_FILE
            text += f"\n  serial log: {log}"
            backtrace = case.folder / panic.BACKTRACE_FILE
            lines = backtrace.read_text().splitlines() if backtrace.exists() else qemu.tail(log)
            text += "".join(f"\n  | {line}" for line in lines)
        out.append(text)
    return out


def result(
    cases: Sequence[tuple[Case, Case | None]],
    context: Mapping[str, Any],
    verdict: Verdict,
) -> dict[str, Any]:
    """The whole of ``result.json``: raw series and checks, nothing rounded."""
    return {
        "format": FORMAT,
        "scenario": cases[0][0].scenario.name if cases else "",
        "verdict": verdict.word,
        "context": dict(context),
        "cases": [_case(case, reference) for case, reference in cases],
    }


def _case(case: Case, reference: Case | None) -> dict[str, Any]:
    hello = hello_of(case)
    # Virtual time alone is a count of instructions.
    virtual = case.context.get("accelerator", qemu.TCG) == qemu.TCG
    mips = 1000.0 / 2**case.dims.shift if virtual else None
    return {
        "name": f"{case.dims.name()}-{case.variant}",
        "dims": {**asdict(case.dims), "variant": case.variant},
        "verdict": case.judgement.verdict.word,
        "reason": case.judgement.reason,
        "context": {
            **case.context,
            "command": case.command,
            "hello": None if hello is None else asdict(hello),
            # All pCPUs share one stream of instructions.
            "million_instructions_per_s": mips,
            "million_instructions_per_s_per_busy_pcpu": mips and mips / case.dims.pcpus,
        },
        "timing": {
            "virtual_s": case.scenario.length_ns / 1e9,
            "wall_s": case.outcome.wall_s,
            "first_record_s": case.outcome.first_record_s,
            "cached": case.cached,
        },
        "rows": [_row(row) for row in case.judgement.rows],
        "reference": (
            None if reference is None else [_row(row) for row in reference.judgement.rows]
        ),
        "checks": [_check(check) for check in case.judgement.checks],
        "series": [asdict(sample) for sample in case.records.samples.values()],
        "ops": [asdict(op) for op in case.records.ops],
    }


def _row(row: Row) -> dict[str, Any]:
    return {**asdict(row), "verdict": None if row.verdict is None else row.verdict.word}


def _check(check: Check) -> dict[str, Any]:
    return {**asdict(check), "verdict": check.verdict.word}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """JSON without NaN or infinity (ValueError), whole or not at all."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


@contextmanager
def new_run(root: Path, name: str) -> Iterator[Path]:
    """A folder for a run's results that appears under ``root`` whole, or not at all.

    Yields the folder being filled; ``final_name`` of it is what it will be called.
    """
    root.mkdir(parents=True, exist_ok=True)
    clean_leftovers(root)
    now_ns = time.time_ns()
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now_ns // 10**9))
    stamp += f".{now_ns // 10**6 % 1000:03}Z"
    temporary = root / f"{_TEMPORARY}{os.environ.get(MAKER) or os.getpid()}-{stamp}-{name}"
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(final_name(temporary))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def final_name(temporary: Path) -> Path:
    """The name a run will have: time first, so that runs sort; the pid tells two at once apart."""
    pid, stamp, name = temporary.name.removeprefix(_TEMPORARY).split("-", 2)
    return temporary.with_name(f"{stamp}-{name}-{pid}")


def clean_leftovers(root: Path, maker: int | None = None) -> list[Path]:
    """Remove half-made runs whose maker is gone, and that maker's."""
    removed: list[Path] = []
    if MAKER in os.environ:
        # Who runs on the machine whose folder this is cannot be seen from here.
        return removed
    for folder in sorted(root.glob(f"{_TEMPORARY}*")):
        pid = folder.name.removeprefix(_TEMPORARY).split("-", 1)[0]
        if pid == str(maker) or not (pid.isdigit() and Path("/proc", pid).exists()):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed
