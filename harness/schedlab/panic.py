# SPDX-License-Identifier: GPL-2.0-only
"""A panic of the hypervisor: its call trace, with the functions that were inlined, files and lines.

Xen prints a trace as addresses with symbols.  An ``R`` is where it was, an ``F`` is a frame, an
``S`` is a word on the stack that may be a return address: without frame pointers Xen cannot tell
those that are from those that were.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from schedlab.core.errors import LabError

BACKTRACE_FILE = "backtrace.txt"
_PANIC = re.compile(r"Panic on CPU (\d+):")
_TRACE = "Xen call trace:"
_FRAME = re.compile(r"\[<([0-9a-f]{16})>\] ([RSF]) (\S+)")
_PREFIX = re.compile(r"^.*?\(XEN\) (\[[^\]<]*\] )?")


@dataclass(frozen=True)
class Frame:
    """An address of the trace; ``symbol`` as Xen says it, file#function+offset/size."""

    address: int
    kind: str
    symbol: str

    @property
    def lookup(self) -> int:
        """Where to look: what is returned to is after the call, and may be another line."""
        return self.address if self.kind == "R" else self.address - 1


@dataclass(frozen=True)
class Panic:
    """What the serial log says of it."""

    cpu: int
    message: str
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class Place:
    """A function, and where in it."""

    function: str
    line: str


# Resolves addresses to places, each with those it is inlined into, innermost first.
Resolve = Callable[[Sequence[int]], list[list[Place]]]


def parse(serial: str) -> Panic | None:
    """The panic in a serial log, with the call trace before it; None where there is none."""
    lines = [_PREFIX.sub("", line).rstrip() for line in serial.splitlines()]
    for at, line in enumerate(lines):
        match = _PANIC.search(line)
        if match is not None:
            break
    else:
        return None
    starts = [i for i, line in enumerate(lines[:at]) if line.startswith(_TRACE)]
    frames = []
    for line in lines[starts[-1] + 1 : at] if starts else ():
        found = _FRAME.search(line)
        if found is not None:
            frames.append(Frame(int(found[1], 16), found[2], found[3]))
        elif not line.strip():
            break
    said = []
    for line in lines[at + 1 :]:
        if not line.strip() or line.startswith("****"):
            break
        said.append(line.strip())
    return Panic(int(match[1]), " / ".join(said), tuple(frames))


def addr2line(symbols: Path) -> Resolve:
    """Resolve by a hypervisor's xen-syms.  Raises LabError."""

    def resolve(addresses: Sequence[int]) -> list[list[Place]]:
        words = ["addr2line", "-a", "-f", "-i", "-e", str(symbols)]
        try:
            done = subprocess.run(
                [*words, *(f"{one:#x}" for one in addresses)], capture_output=True, text=True
            )
        except OSError as error:
            raise LabError(f"addr2line: {error}", "`make setup` installs binutils") from error
        if done.returncode != 0 or done.stderr:
            raise LabError(f"addr2line: {done.stderr.strip()}", f"see to {symbols}")
        return _places(done.stdout)

    return resolve


def _places(said: str) -> list[list[Place]]:
    """What ``addr2line -a -f -i`` printed: an address, then pairs of lines."""
    found: list[list[Place]] = []
    lines = iter(said.splitlines())
    for line in lines:
        if line.startswith("0x"):
            found.append([])
        else:
            found[-1].append(Place(line, re.sub(r"^(\./)+|^.*/xen/(?=xen/)", "", next(lines))))
    return found


def render(panic: Panic, resolve: Resolve) -> str:
    """The backtrace for people."""
    out = [f"Panic on CPU {panic.cpu}: {panic.message or 'without a word'}"]
    if not panic.frames:
        return "\n".join([*out, "  Xen printed no call trace"])
    places = resolve([frame.lookup for frame in panic.frames])
    if len(places) != len(panic.frames):
        raise LabError(f"addr2line gave {len(places)} of {len(panic.frames)} places", "")
    width = max(len(frame.symbol.rpartition("#")[2]) for frame in panic.frames)
    for frame, inner_first in zip(panic.frames, places):
        name = frame.symbol.rpartition("#")[2]
        for inlined in inner_first[:-1]:
            out.append(f"  {frame.kind} {inlined.function + ' (inlined)':<{width}}  {inlined.line}")
        where = inner_first[-1].line if inner_first else "?"
        out.append(f"  {frame.kind} {name:<{width}}  {where}")
    if any(frame.kind == "S" for frame in panic.frames):
        out.append("  (S: a word on the stack that looks like a return address; some are stale)")
    return "\n".join(out)


def explain(serial: Path, symbols: Path) -> str:
    """The backtrace of a serial log's panic; empty where there is none.  What cannot be resolved is
    said, and the trace is as Xen printed it.
    """
    try:
        panic = parse(serial.read_text(errors="replace"))
    except FileNotFoundError:
        return ""
    if panic is None:
        return ""
    try:
        return render(panic, addr2line(symbols))
    except LabError as error:
        raw = [f"  {frame.kind} {frame.symbol}" for frame in panic.frames]
        return "\n".join(
            [f"Panic on CPU {panic.cpu}: {panic.message}", *raw, f"  (not resolved: {error})"]
        )
