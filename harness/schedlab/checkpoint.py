# SPDX-License-Identifier: GPL-2.0-only
"""Checkpoints: a booted machine, its controller waiting for a scenario, kept in a file.

A checkpoint is made by a cold boot with the placeholder scenario, stopped after the ``ready``
record, and migrated to a file.  It is stored under the hash of all that went into it (Xen, kernel,
initramfs, QEMU, arguments); scenario and guests are no part of it, they come in when it is
restored.

It is stopped by a breakpoint, so at an instruction and not at an instant of wall time: the same
inputs give the same machine everywhere.  (Of the file itself, two fields of QEMU's own differ, the
host's clock when the machine was stopped; nothing in the machine can see them.)
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from pathlib import Path

from schedlab import panic
from schedlab.core.command import dry_run
from schedlab.core.errors import LabError
from schedlab.core.store import Store
from schedlab.gdb import Debugger
from schedlab.qemu import (
    BOOT_SLICE_US,
    NO_SCENARIO,
    QEMU_LOG_FILE,
    RECORDS_FILE,
    SCENARIO_FILE,
    SERIAL_FILE,
    Artifacts,
    Cancelled,
    Command,
    Machine,
    Monitor,
    Process,
    Watcher,
    command,
)

STATE_FILE = "state"
STEP = "checkpoint"
# Where the controller has its function checkpoint_here() (guests/controller/CMakeLists.txt).
CHECKPOINT_ADDRESS = 0x70000000
_MIGRATION_LIMIT_S = 60.0


def inputs(machine: Machine, artifacts: Artifacts) -> dict[str, str]:
    """What a checkpoint of this machine depends on."""
    hashes = {name: artifacts.hashes[name] for name in ("xen", "kernel", "initramfs", "qemu")}
    # The shape of the command without any path: those of other runs of the lab differ, the machine
    # does not.
    shape = [word for word in machine.arguments()]
    return {**hashes, "arguments": json.dumps(shape), "format": "4"}


def get(
    store: Store,
    machine: Machine,
    artifacts: Artifacts,
    logs: Path,
    watchdog_s: float,
    cancel: threading.Event,
) -> Path:
    """The folder of the machine's checkpoint, made when it is not there.

    The logs of a failure go to ``logs``.
    """

    def make(folder: Path) -> None:
        try:
            _make(folder, machine, artifacts, watchdog_s, cancel)
        except LabError as error:
            kept = logs / f"checkpoint-{machine.scheduler}-{machine.pcpus}p"
            kept.mkdir(parents=True, exist_ok=True)
            for name in (SERIAL_FILE, RECORDS_FILE, QEMU_LOG_FILE, "command.sh"):
                if (folder / name).exists():
                    shutil.copyfile(folder / name, kept / name)
            serial = kept / SERIAL_FILE
            log = serial if serial.exists() and serial.stat().st_size else kept / QEMU_LOG_FILE
            backtrace = panic.explain(serial, artifacts.xen_syms)
            what = f"{error.what}\n{backtrace}" if backtrace else error.what
            raise LabError(what, error.remedy, log if log.exists() else None) from error

    return store.get(STEP, inputs(machine, artifacts), make)


def _make(
    folder: Path, machine: Machine, artifacts: Artifacts, watchdog_s: float, cancel: threading.Event
) -> None:
    if dry_run():
        print(_command(machine, artifacts, Path(".")).lines(), end="")
        print(
            f"# by GDB: hbreak *{CHECKPOINT_ADDRESS:#x}, continue; by QMP: migrate to {STATE_FILE}"
        )
        return
    (folder / SCENARIO_FILE).write_text(NO_SCENARIO)
    # A socket's path may have 107 characters at most, so it does not go into the store.
    with tempfile.TemporaryDirectory(prefix="nemesis-") as short:
        sockets = Path(short)
        boot = _command(machine, artifacts, sockets)
        (folder / "command.sh").write_text(boot.script())
        watcher = Watcher(folder, watchdog_s, cancel)
        with Process(boot, folder) as qemu:
            with (
                Monitor(sockets / "qmp", qemu) as monitor,
                Debugger(sockets / "gdb", qemu) as debugger,
            ):
                debugger.run_to(CHECKPOINT_ADDRESS)
                outcome = watcher.wait(qemu, until=debugger.stopped)
                if outcome.reason or outcome.status is not None:
                    raise LabError(
                        f"the machine ({machine.scheduler}, {machine.pcpus} pCPUs) did not boot to "
                        f"the controller: {outcome.reason or 'QEMU ended'}",
                        "see the serial log",
                    )
                monitor.execute("migrate", uri=f"file:{folder / STATE_FILE}")
                _finish(monitor, cancel)


def _command(machine: Machine, artifacts: Artifacts, sockets: Path) -> Command:
    boot = command(
        machine,
        artifacts,
        monitor=sockets / "qmp",
        debugger=sockets / "gdb",
        slice_us=BOOT_SLICE_US,
    )
    # That it was stopped is not part of the state: a restore goes on without being told to.
    boot.argv += ["-global", "migration.store-global-state=off"]
    return boot


def _finish(monitor: Monitor, cancel: threading.Event) -> None:
    deadline = time.monotonic() + _MIGRATION_LIMIT_S
    while True:
        status = monitor.execute("query-migrate")
        if status.get("status") == "completed":
            return
        if status.get("status") == "failed" or time.monotonic() > deadline:
            detail = status.get("error-desc", f"not done in {_MIGRATION_LIMIT_S:g} s")
            raise LabError(f"QEMU could not write the checkpoint: {detail}", "is the disk full?")
        if cancel.is_set():
            raise Cancelled
        time.sleep(0.02)
