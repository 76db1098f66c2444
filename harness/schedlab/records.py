# SPDX-License-Identifier: GPL-2.0-only
"""The controller's records: one JSON object a line, typed, parsed strictly.

A key that is missing, unknown, or of another type is an error: the controller and the harness
change together or not at all.  Times are ns of virtual time, from t0 unless said otherwise.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any


class RecordError(Exception):
    """Records that are not what the contract says; names line and key."""


@dataclass(frozen=True)
class Hello:
    """What was booted; ``cpu_khz`` and ``total_kib`` are the hypervisor's."""

    format: int
    xen_version: str
    xen_build: str
    scheduler: str
    pcpus: int
    cpu_khz: int
    total_kib: int


@dataclass(frozen=True)
class Ready:
    """The controller waits for a scenario; CLOCK_MONOTONIC_RAW of dom0."""

    t_ns: int


@dataclass(frozen=True)
class Begin:
    """The scenario begins; t0 in CLOCK_MONOTONIC_RAW of dom0."""

    name: str
    t0_ns: int


@dataclass(frozen=True)
class Created:
    """A domain as it was built; cap and weight as read back."""

    name: str
    domid: int
    image: str
    vcpus: int
    cap_percent: int
    weight: int


@dataclass(frozen=True)
class Op:
    """An operation done; ``errno`` is "0" or a symbol.

    A domctl also has the number of domains that it returned, and how many entries it wrote.
    """

    index: int
    op: str
    t_ns: int
    done_ns: int
    errno: str
    count: int | None = None
    written: int | None = None


@dataclass(frozen=True)
class Guest:
    """One vCPU's own view: no accounting of the hypervisor's enters it, save runstate's."""

    work: int
    clock_ns: int
    ran_ns: int
    slices: int
    gap_ns: int
    longest_gap_ns: int
    idle_ns: int
    wakes: int
    late_ns: int
    longest_late_ns: int
    runstate: Mapping[str, int]


@dataclass(frozen=True)
class Device:
    """What a device's driver, or its device model, has seen (nemesis/device_page.hpp).

    Histograms: pairs of where a bucket ends, in ns, and how many are in it.
    """

    started: int
    written: int
    verified: int
    corrupt: int
    lost: int
    refused: int
    wrong: int
    unanswered: int
    connected: int
    clock_wrong: int
    waited_ns: int
    worst_ns: int
    accesses: int
    served: int
    rejected: int
    latency: tuple[tuple[int, int], ...]
    clock_latency: tuple[tuple[int, int], ...]

    @property
    def answered(self) -> int:
        """Requests that are over, whatever came of them."""
        return sum(count for _, count in (*self.latency, *self.clock_latency))


@dataclass(frozen=True)
class DomainUse:
    """A domain at a sample; ``cpu_ns`` is None when it is gone."""

    name: str
    domid: int
    cpu_ns: int | None
    state: str
    guest_failure: int
    guest: tuple[Guest, ...]
    device: Device | None = None


@dataclass(frozen=True)
class GroupDomainUse:
    """A domain's part in a group's statistics."""

    name: str
    domid: int
    weight: int
    usage_ns: int
    nr_periods: int
    nr_throttled: int
    throttled_ns: int


@dataclass(frozen=True)
class GroupUse:
    """A group's statistics, the hypervisor's; ``now_ns`` is Xen's system time."""

    master: str
    now_ns: int
    cap_percent: int
    weight: int
    usage_ns: int
    nr_periods: int
    nr_throttled: int
    throttled_ns: int
    domains: tuple[GroupDomainUse, ...]


@dataclass(frozen=True)
class Sample:
    """All domains at one instant between ``t_ns`` and ``t_ns + span_ns``; it was due at ``due_ns``,
    when the operations before it had settled.
    """

    index: int
    label: str
    due_ns: int
    t_ns: int
    span_ns: int
    domains: Mapping[str, DomainUse]
    groups: tuple[GroupUse, ...]


@dataclass(frozen=True)
class Program:
    """A program of dom0's that ended; its output as it was."""

    status: int
    output: str


@dataclass(frozen=True)
class TraceClock:
    """One instant by two clocks: ns from t0, and the TSC of the trace's time stamps."""

    t_ns: int
    tsc: int


@dataclass(frozen=True)
class Trace:
    """The hypervisor's own trace: records of each pCPU, as they are in its buffers."""

    clocks: tuple[TraceClock, ...]
    buffers: Mapping[int, bytes]


@dataclass(frozen=True)
class Error:
    """The controller gave something up."""

    what: str
    errno: str


@dataclass(frozen=True)
class Records:
    """A run's records."""

    hello: Hello | None
    ready: Ready | None
    begin: Begin | None
    created: tuple[Created, ...]
    ops: tuple[Op, ...]
    samples: Mapping[str, Sample]
    errors: tuple[Error, ...]
    ended: bool
    trace: Trace | None = None
    program: Program | None = None


class _Fields:
    """One object's keys, each taken once, none left."""

    def __init__(self, raw: Any, where: str) -> None:
        if not isinstance(raw, dict):
            raise RecordError(f"{where}: not an object")
        self._raw: dict[str, Any] = dict(raw)
        self._where = where

    def _take(self, key: str) -> Any:
        try:
            return self._raw.pop(key)
        except KeyError:
            raise RecordError(f"{self._where}: {key} is missing") from None

    def integer(self, key: str, default: int | None = None) -> int:
        if default is not None and key not in self._raw:
            return default
        value = self._take(key)
        # bool is an int to Python, not to JSON.
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise RecordError(f"{self._where}: {key} is {value!r}, not a whole number from 0")
        return value

    def has(self, key: str) -> bool:
        return key in self._raw

    def integer_or_none(self, key: str) -> int | None:
        if key in self._raw and self._raw[key] is None:
            self._raw.pop(key)
            return None
        return self.integer(key)

    def text(self, key: str) -> str:
        value = self._take(key)
        if not isinstance(value, str):
            raise RecordError(f"{self._where}: {key} is {value!r}, not a string")
        return value

    def base64(self, key: str) -> bytes:
        try:
            return base64.b64decode(self.text(key), validate=True)
        except ValueError as error:
            raise RecordError(f"{self._where}: {key} is not base64 ({error})") from None

    def errno(self, key: str = "errno") -> str:
        value = self._take(key)
        if value == 0 and isinstance(value, int):
            return "0"
        if not isinstance(value, str) or not value.startswith("E"):
            raise RecordError(f"{self._where}: {key} is {value!r}, not 0 or an errno's symbol")
        return value

    def items(self, key: str) -> list[_Fields]:
        value = self._take(key)
        if not isinstance(value, list):
            raise RecordError(f"{self._where}: {key} is not a list")
        return [_Fields(item, f"{self._where}.{key}[{i}]") for i, item in enumerate(value)]

    def histogram(self, key: str) -> tuple[tuple[int, int], ...]:
        value = self._take(key)
        pairs = []
        for pair in value if isinstance(value, list) else [None]:
            if not (isinstance(pair, list) and [type(x) for x in pair] == [int, int]):
                raise RecordError(f"{self._where}: {key} is not a list of pairs of whole numbers")
            pairs.append((pair[0], pair[1]))
        return tuple(pairs)

    def part(self, key: str) -> _Fields:
        return _Fields(self._take(key), f"{self._where}.{key}")

    def done(self) -> None:
        if self._raw:
            raise RecordError(f"{self._where}: unknown key {sorted(self._raw)[0]}")


def parse(lines: Iterable[str]) -> Records:
    """Records from their lines; raises RecordError naming the line (from 1) and the key."""
    hello: Hello | None = None
    ready: Ready | None = None
    begin: Begin | None = None
    created: list[Created] = []
    ops: list[Op] = []
    samples: dict[str, Sample] = {}
    errors: list[Error] = []
    program: Program | None = None
    clocks: list[TraceClock] = []
    buffers: dict[int, bytes] = {}
    ended = False
    for number, line in enumerate(lines, 1):
        where = f"record {number}"
        if ended:
            raise RecordError(f"{where}: follows the end record")
        try:
            raw = json.loads(line)
        except json.JSONDecodeError as error:
            raise RecordError(f"{where}: not JSON ({error.msg}): {line[:80]!r}") from error
        f = _Fields(raw, where)
        kind = f.text("r")
        if kind == "hello":
            hello = Hello(
                f.integer("format"),
                f.text("xen_version"),
                f.text("xen_build"),
                f.text("scheduler"),
                f.integer("pcpus"),
                f.integer("cpu_khz"),
                f.integer("total_kib"),
            )
        elif kind == "ready":
            ready = Ready(f.integer("t_ns"))
        elif kind == "scenario":
            begin = Begin(f.text("name"), f.integer("t0_ns"))
        elif kind == "domain":
            created.append(
                Created(
                    f.text("name"),
                    f.integer("domid"),
                    f.text("image"),
                    f.integer("vcpus"),
                    f.integer("cap_percent"),
                    f.integer("weight"),
                )
            )
        elif kind == "op":
            ops.append(
                Op(
                    f.integer("i"),
                    f.text("op"),
                    f.integer("t_ns"),
                    f.integer("done_ns"),
                    f.errno(),
                    f.integer("count") if f.has("count") else None,
                    f.integer("written") if f.has("written") else None,
                )
            )
        elif kind == "sample":
            sample = _sample(f)
            if sample.label in samples:
                raise RecordError(f"{where}: a second sample {sample.label}")
            samples[sample.label] = sample
        elif kind == "program":
            program = Program(f.integer("status"), f.text("output"))
        elif kind == "trace_clock":
            clocks.append(TraceClock(f.integer("t_ns"), f.integer("tsc")))
        elif kind == "trace":
            pcpu = f.integer("pcpu")
            buffers[pcpu] = buffers.get(pcpu, b"") + f.base64("data")
        elif kind == "error":
            errors.append(Error(f.text("what"), f.errno()))
        elif kind == "end":
            if f.integer("errors") != len(errors):
                raise RecordError(f"{where}: errors does not count the error records")
            ended = True
        else:
            raise RecordError(f"{where}: unknown record {kind!r}")
        f.done()
    return Records(
        *(hello, ready, begin, tuple(created), tuple(ops), samples, tuple(errors), ended),
        Trace(tuple(clocks), buffers) if buffers else None,
        program,
    )


def _sample(f: _Fields) -> Sample:
    index, label, due_ns, t_ns, span_ns = (
        f.integer("i"),
        f.text("label"),
        f.integer("due_ns"),
        f.integer("t_ns"),
        f.integer("span_ns"),
    )
    domains: dict[str, DomainUse] = {}
    for d in f.items("domains"):
        use = DomainUse(
            d.text("name"),
            d.integer("domid"),
            d.integer_or_none("cpu_ns"),
            d.text("state"),
            d.integer("guest_failure", 0),
            tuple(_guest(g) for g in d.items("guest")),
            _device(d.part("device")) if d.has("device") else None,
        )
        d.done()
        domains[use.name] = use
    groups = tuple(_group(g) for g in f.items("groups"))
    return Sample(index, label, due_ns, t_ns, span_ns, domains, groups)


def _guest(f: _Fields) -> Guest:
    times = f.part("runstate")
    names = ("running_ns", "runnable_ns", "blocked_ns", "offline_ns")
    runstate = {name: times.integer(name) for name in names}
    times.done()
    guest = Guest(
        f.integer("work"),
        f.integer("clock_ns"),
        f.integer("ran_ns"),
        f.integer("slices"),
        f.integer("gap_ns"),
        f.integer("longest_gap_ns"),
        f.integer("idle_ns"),
        f.integer("wakes"),
        f.integer("late_ns"),
        f.integer("longest_late_ns"),
        runstate,
    )
    f.done()
    return guest


def _device(f: _Fields) -> Device:
    names = [one.name for one in fields(Device)]
    counts = {name: f.integer(name) for name in names if not name.endswith("latency")}
    device = Device(
        **counts, latency=f.histogram("latency"), clock_latency=f.histogram("clock_latency")
    )
    f.done()
    return device


def _group(f: _Fields) -> GroupUse:
    domains = []
    for d in f.items("domains"):
        domains.append(
            GroupDomainUse(
                d.text("name"),
                d.integer("domid"),
                d.integer("weight"),
                d.integer("usage_ns"),
                d.integer("nr_periods"),
                d.integer("nr_throttled"),
                d.integer("throttled_ns"),
            )
        )
        d.done()
    group = GroupUse(
        f.text("master"),
        f.integer("now_ns"),
        f.integer("cap_percent"),
        f.integer("weight"),
        f.integer("usage_ns"),
        f.integer("nr_periods"),
        f.integer("nr_throttled"),
        f.integer("throttled_ns"),
        tuple(domains),
    )
    f.done()
    return group


def first_difference(one: bytes, two: bytes) -> str | None:
    """The first record in which two records files differ, from both; None: the same bytes."""
    if one == two:
        return None
    a, b = one.splitlines(), two.splitlines()
    for number, (x, y) in enumerate(zip(a, b), 1):
        if x != y:
            return f"record {number} differs:\n  {_show(x)}\n  {_show(y)}"
    longer = a if len(a) > len(b) else b
    number = min(len(a), len(b)) + 1
    if number > len(longer):
        return "they differ in line ends only"
    return f"record {number} is in one of them only:\n  {_show(longer[number - 1])}"


def _show(line: bytes) -> str:
    return line.decode(errors="replace")[:600]
