# SPDX-License-Identifier: GPL-2.0-only
"""One QEMU: its command line, its life, and the small part of QMP that the lab needs.

Virtual time is QEMU's instruction count (``-icount``), so a run depends on its inputs alone,
provided nothing reaches the machine at a wall-clock instant: a measuring run has no monitor, no
input and no network; scenario and guests come in through fw_cfg files, records go out through port
0xe9 into a file.

QEMU runs in a session of its own, dies with this process (prctl PDEATHSIG, by setpriv), and its
whole process group is killed when the ``with`` block that started it ends, however it ends.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from schedlab.core.errors import LabError

# QEMU's exit status is (code written to port 0x501) * 2 + 1.
STATUS_ENDED = 1
STATUS_GAVE_UP = 3
DEFAULT_WATCHDOG_S = 60.0
MEMORY_MIB = 512
SCENARIO_FILE = "scenario.json"
RECORDS_FILE = "records.jsonl"
SERIAL_FILE = "serial.log"
QEMU_LOG_FILE = "qemu.log"
NO_SCENARIO = "none\n"
# What boots, by the names it has in the folder that QEMU runs in: links, as QEMU's multiboot loader
# puts the names before the command lines, where the machine has them in its memory and reads over
# them.  A path would make the instructions executed a function of where the lab is.
XEN_LINK, KERNEL_LINK, INITRAMFS_LINK = "xen", "dom0-kernel", "dom0-initramfs"
# What executes instructions: QEMU itself, in virtual time, or the host's processor, in real time.
TCG, KVM = "tcg", "kvm"
# The period of a virtual timer whose only work is to end QEMU's round-robin slice, so that no pCPU
# runs ahead of the others by more (DESIGN.md, determinism 2); microseconds.  Measured with the
# calibration scenario, cold, on QEMU 10.0.2, 4 pCPUs, shift 5, three windows of 1 s: the largest
# distance of a capped domain from its 25 % of a pCPU was 0.00 at 200 us, 0.03 at 500, 0.01 at 1000.
SLICE_US = 200
# Until the controller waits for a scenario nothing is measured: a checkpoint's boot takes 4.5 s
# with this, 7.2 s with SLICE_US (4 pCPUs).  The timer is QEMU's own and no part of the checkpoint.
BOOT_SLICE_US = 10_000

# QEMU's TSC is its virtual time, the same on all pCPUs at every instant: as invariant as a TSC can
# be.  TCG does not offer the flag, so it is forced; without it Xen keeps a clock a pCPU, adjusted
# once a second in a rendezvous, in which QEMU's turns look like drift of up to 100 us.
CPU_MODEL = "qemu64,+svm,+npt,+invtsc,x-force-features=on"
# Under KVM the host's, save what KVM may offer and then refuses to set.
KVM_CPU_MODEL = "host,migratable=no,+invtsc,-arch-capabilities"
# QEMU's -smp of n pCPUs, and what Xen is told.  "pairs": its unit of scheduling is a socket of two.
TOPOLOGIES = {
    "cores": ("sockets=1,cores={n}", ""),
    "sockets": ("sockets={n},cores=1", ""),
    "pairs": ("sockets={half},cores=2", "sched-gran=socket"),
}
# Scrubbing is slow; mitigations cost instructions, and an emulated CPU speculates on nothing.
XEN_ARGS = (
    "loglvl=info guest_loglvl=info com1=115200 console=com1 noreboot "
    "bootscrub=0 clocksource=tsc tsc=stable:socket spec-ctrl=no xpti=no "
    "dom0_mem={dom0_mib}M,max:{dom0_mib}M dom0_max_vcpus=1"
)
KERNEL_ARGS = "console=hvc0 quiet swiotlb=512 acpi=off pci=off tsc=reliable"

# What the serial log says when there is no use in waiting.
_FATAL = re.compile(
    rb"Panic on CPU \d+|Kernel panic - not syncing[^\r\n]*|"
    rb"Domain \d+ \(vcpu#\d+\) crashed on cpu#\d+|Hardware Dom0 \w+: [^\r\n]*"
)
_POLL_S = 0.02
_LAST_WORDS_S = 0.5


class QemuBuild(Protocol):
    """The part of the build's artifacts that is QEMU."""

    @property
    def argv0(self) -> Path:
        ...  # noqa: E704

    @property
    def env(self) -> Mapping[str, str]:
        ...  # noqa: E704

    @property
    def data_args(self) -> Sequence[str]:
        ...  # noqa: E704

    @property
    def version(self) -> str:
        ...  # noqa: E704


class Artifacts(Protocol):
    """What the lab needs of schedlab.build.artifacts()."""

    @property
    def xen(self) -> Path:
        ...  # noqa: E704

    @property
    def xen_syms(self) -> Path:
        ...  # noqa: E704

    @property
    def kernel(self) -> Path:
        ...  # noqa: E704

    @property
    def initramfs(self) -> Path:
        ...  # noqa: E704

    @property
    def guests(self) -> Mapping[str, Path]:
        ...  # noqa: E704

    @property
    def qemu(self) -> QemuBuild:
        ...  # noqa: E704

    @property
    def hashes(self) -> Mapping[str, str]:
        ...  # noqa: E704

    @property
    def origin(self) -> Mapping[str, str]:
        ...  # noqa: E704


class Cancelled(Exception):
    """Another part of the lab asked this run to stop."""


@dataclass(frozen=True)
class Machine:
    """The virtual machine's own dimensions."""

    scheduler: str
    pcpus: int
    topology: str
    shift: int
    dom0_mib: int = 64
    # Xen's command line, beside XEN_ARGS.
    xen_options: str = ""
    accel: str = TCG

    def arguments(self, slice_us: int = SLICE_US) -> list[str]:
        """QEMU arguments that name no file; part of every cache key."""
        if self.accel == KVM:
            return self._real_time()
        # A single pCPU has no other to drift from.
        slice_timer = (
            *("-netdev", "hubport,id=slice,hubid=0"),
            *("-object", f"filter-buffer,id=bound,netdev=slice,interval={slice_us}"),
        )
        return [
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-accel", "tcg", "-icount", f"shift={self.shift},sleep=off"),
            *("-rtc", "base=2026-01-01,clock=vm", "-seed", "1"),
            *("-machine", "pc", "-cpu", CPU_MODEL, "-m", str(MEMORY_MIB)),
            *("-smp", self._smp()),
            *(slice_timer if self.pcpus > 1 else ()),
            *("-device", "isa-debug-exit,iobase=0x501,iosize=1"),
            *("-append", self._xen()),
        ]

    def _smp(self) -> str:
        shape, _ = TOPOLOGIES[self.topology]
        return f"{self.pcpus},{shape.format(n=self.pcpus, half=self.pcpus // 2)}"

    def _xen(self) -> str:
        """Xen's command line."""
        words = (
            *(f"sched={self.scheduler}", TOPOLOGIES[self.topology][1]),
            *(XEN_ARGS.format(dom0_mib=self.dom0_mib), self.xen_options),
        )
        return " ".join(filter(None, words))

    def _real_time(self) -> list[str]:
        """The same machine on the host's own processor and clock."""
        return [
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-accel", "kvm", "-rtc", "base=2026-01-01", "-seed", "1"),
            *("-machine", "pc", "-cpu", KVM_CPU_MODEL, "-m", str(MEMORY_MIB)),
            *("-smp", self._smp()),
            *("-device", "isa-debug-exit,iobase=0x501,iosize=1"),
            *("-append", self._xen()),
        ]


@dataclass
class Command:
    """A command to be run in a folder that has ``links``: names, and what they lead to."""

    argv: list[str]
    env: Mapping[str, str]
    links: Mapping[str, Path]

    @contextmanager
    def linked(self, folder: Path) -> Iterator[None]:
        """The folder has the links for as long as this is entered."""
        try:
            for name, to in self.links.items():
                (folder / name).unlink(missing_ok=True)
                (folder / name).symlink_to(to)
            yield
        finally:
            for name in self.links:
                (folder / name).unlink(missing_ok=True)

    def script(self) -> str:
        """A shell script of it, to be pasted or run in its folder."""
        return f"#!/bin/sh\n{self.lines()}"

    def lines(self) -> str:
        """The script's lines."""
        lines = [f"ln -sfn -- {shlex.quote(str(to))} {name}" for name, to in self.links.items()]
        words = [f"{k}={shlex.quote(v)}" for k, v in sorted(self.env.items())]
        return "\n".join([*lines, " ".join([*words, shlex.join(self.argv)])]) + "\n"


def command(
    machine: Machine,
    artifacts: Artifacts,
    images: Sequence[str] = (),
    *,
    incoming: Path | None = None,
    monitor: Path | None = None,
    debugger: Path | None = None,
    slice_us: int = SLICE_US,
) -> Command:
    """The whole command.

    It is run in a folder that has SCENARIO_FILE, and writes RECORDS_FILE and SERIAL_FILE there.

    ``incoming`` restores that checkpoint, and goes on by itself; ``monitor`` and ``debugger`` are
    paths of a QMP socket and of one for GDB; the machine then waits to be continued.  Without them
    nothing can reach the machine from outside.
    """
    made = boot(machine, artifacts, slice_us)
    argv = made.argv
    argv += ["-serial", f"file:{SERIAL_FILE}"]
    argv += ["-fw_cfg", f"name=opt/nemesis/scenario,file={SCENARIO_FILE}"]
    for image in images:
        if image not in artifacts.guests:
            raise LabError(
                f"no guest image {image} in this build",
                f"there are: {', '.join(sorted(artifacts.guests)) or 'none'}",
            )
        path = _comma(artifacts.guests[image])
        argv += ["-fw_cfg", f"name=opt/nemesis/guest/{image},file={path}"]
    if incoming is not None:
        # The announcement of the migrated network card runs on host time: none of it.
        argv += ["-global", "migration.announce-rounds=0", "-incoming", f"file:{incoming}"]
    if monitor is not None:
        argv += ["-S", "-qmp", f"unix:{monitor},server=on,wait=off"]
    if debugger is not None:
        argv += ["-S", "-gdb", f"unix:{debugger},server=on,wait=off"]
    return made


def boot(machine: Machine, artifacts: Artifacts, slice_us: int = SLICE_US) -> Command:
    """The part of a command that boots Xen and dom0, records going to RECORDS_FILE."""
    qemu = artifacts.qemu
    argv = [
        *(str(qemu.argv0), *qemu.data_args, *machine.arguments(slice_us)),
        *("-kernel", XEN_LINK),
        *("-initrd", f"{KERNEL_LINK} {KERNEL_ARGS},{INITRAMFS_LINK}"),
        *("-chardev", f"file,id=records,path={RECORDS_FILE}"),
        *("-device", "isa-debugcon,iobase=0xe9,chardev=records"),
    ]
    links = {
        XEN_LINK: artifacts.xen,
        KERNEL_LINK: artifacts.kernel,
        INITRAMFS_LINK: artifacts.initramfs,
    }
    return Command(argv, qemu.env, links)


def _comma(path: Path) -> str:
    """QEMU's own escape in option values."""
    return str(path).replace(",", ",,")


class Process:
    """A running QEMU; leaving the ``with`` block kills it and waits until it is gone."""

    def __init__(self, command: Command, folder: Path) -> None:
        self._links = ExitStack()
        self._links.enter_context(command.linked(folder))
        with open(folder / QEMU_LOG_FILE, "wb") as log:
            try:
                self._child = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", "--", *command.argv],
                    cwd=folder,
                    env={**os.environ, **command.env},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                self._links.close()
                raise LabError(f"cannot start QEMU: {error}", "run make setup") from error
        self.started = time.monotonic()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The process id, which is also its group's."""
        return self._child.pid

    def cpu_s(self) -> float | None:
        """The CPU time it has taken; None when it is gone."""
        try:
            fields = Path(f"/proc/{self._child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        return self._child.poll()

    def last_words(self) -> int | None:
        """Give it a moment to end by itself, then kill it; its own exit status, None if killed."""
        try:
            return self._child.wait(_LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def kill(self) -> None:
        """Kill the process group; returns when it is gone, and the links with it."""
        if self._child.poll() is None:
            try:
                os.killpg(self._child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self._child.wait()
        self._links.close()


@dataclass
class Outcome:
    """How a run went, as seen from outside; ``status`` is QEMU's, None when it was killed.

    ``cpu_s`` is the host's CPU time that it took: what ``wall_s`` is on an idle host.
    """

    status: int | None
    reason: str = ""
    wall_s: float = 0.0
    first_record_s: float | None = None
    cpu_s: float = 0.0


@dataclass
class Watcher:
    """Waits for a QEMU, and gives it up when it shows no sign of life or a sign of death."""

    folder: Path
    watchdog_s: float = DEFAULT_WATCHDOG_S
    cancel: threading.Event = field(default_factory=threading.Event)
    first_record_s: float | None = None
    _cpu_s: float = 0.0
    _sizes: tuple[int, int] = (0, 0)
    _serial_read: int = 0

    def wait(self, process: Process, until: Callable[[], bool] | None = None) -> Outcome:
        """Until it exits, dies, or hangs: nothing new in records or serial for ``watchdog_s``.

        With ``until``, returns with status None and no reason as soon as that is true.
        Raises Cancelled when ``cancel`` is set.
        """
        alive = time.monotonic()
        while True:
            if self.cancel.is_set():
                raise Cancelled
            # As it was at the last look: when it has ended it cannot be asked.
            self._cpu_s = process.cpu_s() or self._cpu_s
            status = process.poll()
            now = time.monotonic()
            sizes = (_size(self.folder / RECORDS_FILE), _size(self.folder / SERIAL_FILE))
            if sizes != self._sizes:
                alive = now
                if sizes[0] and self.first_record_s is None:
                    self.first_record_s = now - process.started
                serial_grew = sizes[1] != self._sizes[1]
                self._sizes = sizes
                if serial_grew and (words := self._fatal()) is not None:
                    status = process.last_words()
                    if not words.startswith("Hardware Dom0") or not _by_controller(status):
                        return self._outcome(process, None, words)
            if status is not None:
                return self._outcome(process, status, _status_text(status, self.folder))
            if until is not None and until():
                return self._outcome(process, None, "")
            if now - alive > self.watchdog_s:
                process.kill()
                reason = f"hung: nothing new in records or serial log for {self.watchdog_s:g} s"
                return self._outcome(process, None, reason)
            time.sleep(_POLL_S)

    def _outcome(self, process: Process, status: int | None, reason: str) -> Outcome:
        wall_s = time.monotonic() - process.started
        return Outcome(status, reason, wall_s, self.first_record_s, self._cpu_s)

    def _fatal(self) -> str | None:
        with open(self.folder / SERIAL_FILE, "rb") as serial:
            # A message may have been cut by the last look: look at a little of it again.
            serial.seek(max(0, self._serial_read - 200))
            new = serial.read()
            self._serial_read = serial.tell()
        match = _FATAL.search(new)
        return match[0].decode(errors="replace") if match else None


def _by_controller(status: int | None) -> bool:
    """Whether QEMU ended because the controller said so.

    It goes on for a moment after that, in which dom0 halts: then its halt is no sign of death.
    """
    return status in (STATUS_ENDED, STATUS_GAVE_UP)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _status_text(status: int, folder: Path) -> str:
    if status == STATUS_ENDED:
        return ""
    if status == STATUS_GAVE_UP:
        return "the controller gave up"
    said = tail(folder / QEMU_LOG_FILE, 3)
    how = f"QEMU was killed by signal {-status}" if status < 0 else f"QEMU exited with {status}"
    return f"{how}: {' / '.join(said)}" if said else f"{how} without the controller's word"


def tail(path: Path, count: int = 15) -> list[str]:
    """The last lines of a log, printable; empty when there is none."""
    try:
        text = path.read_bytes()[-16384:].decode(errors="replace")
    except FileNotFoundError:
        return []
    lines = [re.sub(r"[^\x20-\x7e\u0080-\uffff]", "", line).rstrip() for line in text.splitlines()]
    return [line for line in lines if line][-count:]


def connected(path: Path, process: Process, what: str, timeout_s: float) -> socket.socket:
    """A connection to a socket that QEMU is to open for its ``what``; LabError if it does not."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(timeout_s)
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            client.connect(str(path))
            return client
        except (FileNotFoundError, ConnectionRefusedError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                client.close()
                raise LabError(f"QEMU did not open its {what}", "see its log") from error
            time.sleep(_POLL_S)


class Monitor:
    """A QMP client: one command at a time, events skipped."""

    def __init__(self, path: Path, process: Process, timeout_s: float = 20.0) -> None:
        self._socket = connected(path, process, "monitor", timeout_s)
        self._lines = self._socket.makefile("rb")
        self._read()
        self.execute("qmp_capabilities")

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lines.close()
        self._socket.close()

    def _read(self) -> dict[str, Any]:
        try:
            line = self._lines.readline()
        except OSError as error:
            raise LabError(f"QEMU's monitor does not answer: {error}", "see its log") from error
        if not line:
            raise LabError("QEMU closed its monitor", "see its log")
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def execute(self, name: str, **arguments: Any) -> Any:
        """The command's return value; LabError with QEMU's words when it refuses."""
        request: dict[str, Any] = {"execute": name}
        if arguments:
            request["arguments"] = arguments
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise LabError(f"QEMU's monitor is gone: {error}", "see its log") from error
        while True:
            answer = self._read()
            if "error" in answer:
                raise LabError(f"QEMU refuses {name}: {answer['error'].get('desc')}", "see its log")
            if "return" in answer:
                return answer["return"]
