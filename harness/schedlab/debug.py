# SPDX-License-Identifier: GPL-2.0-only
"""``lab gdb``: a scenario, stopped in the hypervisor, and GDB on it.

The machine starts from its checkpoint, runs to the place asked for, and then stands still while GDB
is attached to QEMU's stub.  Time is virtual, so what is seen there is seen again the next time: at
an instant, all pCPUs are as they were; at a breakpoint, the pCPU that came to it is (the others
have run on, for as long as QEMU took to stop).  Times are the scenario's, or with ``+`` since the
checkpoint.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from schedlab import alarm, checkpoint, panic, qemu, records, run, scenario
from schedlab.core.command import dry_run, query
from schedlab.core.errors import LabError
from schedlab.core.store import exclusive
from schedlab.gdb import Debugger
from schedlab.qemu import Artifacts, Monitor, Process, Watcher
from schedlab.run import Lab
from schedlab.scenario import Dims, Scenario

# What --batch prints where no commands are given.
BATCH = ("backtrace", "info registers")
# What is shown first to who sits before it; after a few frames come a guest's registers.
FIRST = ("backtrace 6",)
_LOOK_S = 0.2
_LAST_WORDS_S = 2.0
_TIME = re.compile(r"\+?(\d+(?:\.\d+)?)(ns|us|ms|s)")


@dataclass(frozen=True)
class Stop:
    """Where the machine stands: the pCPU to look at first, and what to say of it."""

    cpu: int
    said: tuple[str, ...]


def parse_time(text: str) -> tuple[int, bool]:
    """Nanoseconds, and whether they are the scenario's.  Raises LabError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise LabError(
            f"T={text} is no time", 'write T=1.5s, or T=+1.5s since the checkpoint ("ms"…)'
        )
    number, unit = match[1], match[2]
    return int(Decimal(number) * scenario.time_ns(f"1{unit}")), not text.startswith("+")


def places(symbols: Path, location: str) -> list[int]:
    """The addresses of a function or file:line, as GDB understands it.  Raises LabError."""
    words = ["gdb", "-nx", "-batch", "-ex", f"break {location}", "-ex", "info breakpoints"]
    done = _run_gdb([*words, str(symbols)])
    found = [int(one, 16) for one in re.findall(r"0x([0-9a-f]{16}) in ", done.stdout)]
    if not found:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise LabError(
            f"B={location}: {said[0] if said else 'GDB does not know it'}",
            "give a function of Xen, or file:line of its source (not one that is optimised away)",
        )
    return sorted(set(found))


def _run_gdb(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise LabError("gdb is not there", "`make setup` installs it") from error


def symbols_of(symbols: Path) -> alarm.Symbols:
    """The addresses that an alarm needs.  Raises LabError."""
    found: dict[str, int] = {}
    for line in query(["nm", symbols]).splitlines():
        address, _, name = line.split(" ", 2)
        if name in ("nmi", "entry_NMI", "restore_all_xen"):
            found[name] = int(address, 16)
    entry = found.get("nmi") or found.get("entry_NMI")
    if entry is None or "restore_all_xen" not in found:
        raise LabError(f"{symbols} has no entry of NMIs", "T cannot be used with this Xen; B can")
    return alarm.Symbols(entry, found["restore_all_xen"])


def zero_ns(lab: Lab, what: Scenario, dims: Dims, variant: str, folder: Path) -> int:
    """When the scenario begins, since the checkpoint: the case is run, if it is not known."""
    case = run.measure(lab, what, dims, variant, folder)
    ready = records.parse((folder / "boot.jsonl").read_text().splitlines()).ready
    begin = case.records.begin
    if begin is None or ready is None:
        raise LabError(
            f"when the scenario begins is not known, as it did not end: {case.judgement.reason}",
            "give T since the checkpoint (T=+0.5s); scenarios begin 0.1 to 0.5 s after it",
        )
    return begin.t0_ns - ready.t_ns


class Session:
    """A machine that goes from its checkpoint to where it is to stop."""

    def __init__(
        self,
        folder: Path,
        process: Process,
        monitor: Monitor,
        debugger: Debugger,
        lab: Lab,
        limit: float,
    ) -> None:
        self._folder = folder
        self._process = process
        self._debugger = debugger
        self._watcher = Watcher(folder, limit, lab.cancel)
        while monitor.execute("query-status")["status"] == "inmigrate":
            if process.poll() is not None:
                raise LabError(
                    "QEMU did not take the checkpoint", "see its log", folder / qemu.QEMU_LOG_FILE
                )
            time.sleep(0.02)

    def to_time(self, ns: int, symbols: alarm.Symbols, cpus: int) -> Stop:
        """Stop all pCPUs at that time since the checkpoint."""
        alarm.set_alarm(self._debugger, ns)
        self._debugger.run_to(symbols.nmi)
        self._wait(f"{ns / 1e9:.9g} s")
        interrupted = alarm.gather(self._debugger, symbols, cpus, lambda: self._wait("its NMI"))
        said = (f"{ns / 1e9:.9f} s of virtual time after the checkpoint",) + tuple(
            f"pCPU {one.cpu} in {'Xen' if one.in_xen else 'a guest'} at {one.rip:#x}"
            for one in interrupted
        )
        first = next((one.cpu for one in interrupted if one.in_xen), 0)
        return Stop(first, said)

    def to_place(self, addresses: Sequence[int], name: str) -> Stop:
        """Stop where a pCPU is about to execute one of them."""
        for address in addresses:
            self._debugger.insert(address)
        self._debugger.go()
        self._wait(name)
        for address in addresses:
            self._debugger.remove(address)
        cpu = self._debugger.stopped_cpu()
        return Stop(cpu, (f"pCPU {cpu} at {name}",))

    def _wait(self, what: str) -> None:
        outcome = self._watcher.wait(self._process, until=self._debugger.stopped)
        if not outcome.reason and outcome.status is None:
            return
        ended = outcome.status == qemu.STATUS_ENDED
        raise LabError(
            f"the machine did not come to {what}: "
            + ("the scenario ended" if ended else outcome.reason or "QEMU ended"),
            "an earlier T, or another B; times are virtual",
            None if ended else self._folder / qemu.SERIAL_FILE,
        )


def commands(
    artifacts: Artifacts, socket: Path, source: Path, stop: Stop, batch: bool, given: Sequence[str]
) -> list[str]:
    """GDB's command line."""
    words = ["gdb", "-q", *(["-nx", "-batch"] if batch else [])]
    first = ("set confirm off", "set pagination off", f"directory {source}")
    there = (f"target remote {socket}", f"thread {stop.cpu + 1}")
    what = given or (BATCH if batch else FIRST)
    for one in (*first, *there, *what, *(() if batch else ("set pagination on",))):
        words += ["-ex", one]
    return [*words, str(artifacts.xen_syms)]


def attach(argv: Sequence[str], over: Callable[[], bool]) -> int:
    """GDB, with the terminal; Ctrl-C is for it alone.  Its exit status; LabError when it does not
    end although it is ``over``: nothing more will happen in the machine.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = subprocess.Popen(argv, preexec_fn=_take_interrupts)
    except FileNotFoundError as error:
        signal.signal(signal.SIGINT, before)
        raise LabError("gdb is not there", "`make setup` installs it") from error
    try:
        while True:
            ended = over()
            try:
                return child.wait(_LAST_WORDS_S if ended else _LOOK_S)
            except subprocess.TimeoutExpired:
                if ended:
                    raise LabError(
                        "Xen is dead, or still, and GDB waits for it",
                        "stop before that: the same stop shows the same again",
                    ) from None
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        signal.signal(signal.SIGINT, before)


def _take_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main(
    options: argparse.Namespace, lab: Lab, scenarios: Path, folder: Path, source: Callable[[], Path]
) -> int:
    """Exit status: GDB's; 2 when the machine did not come to where it was to stop."""
    what = scenario.override(
        scenario.load(scenario.find(options.scenario, scenarios)),
        schedulers=options.scheduler,
        pcpus=options.pcpus,
        shift=options.shift,
        base=options.xen,
    )
    if options.case is not None:
        what = scenario.only(what, options.case)
    cells = list(what.matrix())
    dims = cells[0]
    at = parse_time(options.at) if options.at else None
    if at is None and not options.stop:
        raise LabError(
            "neither T nor B is given", "T=1.5s: that time; B=csched2_schedule: that place"
        )
    artifacts = lab.build(dims.variant(options.variant))
    what = what.of(dims)
    machine = run.machine_of(dims)
    made = checkpoint.get(lab.store, machine, artifacts, lab.logs, lab.watchdog_s, lab.cancel)
    images = what.images(dims.kind)
    where = folder / f"{what.name}-{dims.name()}-{options.variant}"
    with (
        tempfile.TemporaryDirectory(prefix="nemesis-") as short,
        exclusive(where.with_name(f"{where.name}.lock"), f"a session in {where.name}"),
    ):
        sockets = Path(short)
        command = qemu.command(
            machine,
            artifacts,
            images,
            incoming=made / checkpoint.STATE_FILE,
            monitor=sockets / "qmp",
            debugger=sockets / "gdb",
        )
        if dry_run():
            print(command.lines(), end="")
            stop = Stop(0, ())
            print(
                shlex.join(
                    commands(artifacts, sockets / "gdb", source(), stop, options.batch, options.ex)
                )
            )
            return 0
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir(parents=True)
        _say(
            f"{what.name} on {dims.name()}, {options.variant}"
            + (f" (of {len(cells)} cases)" if len(cells) > 1 else "")
        )
        zero: int | None = None
        if at is not None and at[1]:
            zero = zero_ns(lab, what, dims, options.variant, where / "measured")
        addresses = [a for one in options.stop for a in places(artifacts.xen_syms, one)]
        (where / qemu.SCENARIO_FILE).write_text(what.as_json(dims))
        (where / "command.sh").write_text(command.script())
        limit = lab.watchdog_s + run.WALL_PER_VIRTUAL * what.length_ns / 1e9
        try:
            with Process(command, where) as process:
                with (
                    Monitor(sockets / "qmp", process) as monitor,
                    Debugger(sockets / "gdb", process) as debugger,
                ):
                    session = Session(where, process, monitor, debugger, lab, limit)
                    if at is not None:
                        symbols = symbols_of(artifacts.xen_syms)
                        stop = session.to_time(at[0] + (zero or 0), symbols, dims.pcpus)
                    if addresses:
                        stop = session.to_place(addresses, ", ".join(options.stop))
                _say("stopped" + (f" at {options.at}" if at else ""))
                for line in stop.said:
                    _say(line)
                gdb = (artifacts, sockets / "gdb", source(), stop, options.batch, options.ex)
                # Whoever sits before an interactive GDB looks at a panic as long as it takes.
                deadline = time.monotonic() + limit

                def over() -> bool:
                    late = time.monotonic() > deadline
                    return options.batch and (late or _panicked(where))

                status = attach(commands(*gdb), over)
        except LabError as error:
            trace = panic.explain(where / qemu.SERIAL_FILE, artifacts.xen_syms)
            what_of = "\n".join(filter(None, (error.what, trace)))
            raise LabError(what_of, error.remedy, error.log) from error
        return 2 if status else 0


def _panicked(folder: Path) -> bool:
    return panic.parse((folder / qemu.SERIAL_FILE).read_text(errors="replace")) is not None


def _say(text: str) -> None:
    print(f"lab: {text}", file=sys.stderr, flush=True)
