# SPDX-License-Identifier: GPL-2.0-only
"""dom0 with Xen's toolstack: a shell script run there in virtual time, or a shell for a person.

The script comes in by fw_cfg; each of its steps (`labctl run NAME COMMAND…`) leaves by port 0xe9 as
a record of what the command said and how it ended.  A run is cold, and a function of its inputs.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from schedlab import qemu
from schedlab.core.command import dry_run
from schedlab.core.errors import LabError
from schedlab.qemu import Artifacts, Machine, Process, Watcher

SCRIPT_FILE = "script.sh"
# xl and xenstored want this much.
DOM0_MIB = 128
# A script may sleep while nothing is said.
WATCHDOG_S = 240.0


@dataclass(frozen=True)
class Step:
    """What a command of the script said, and how it ended (128 + signal, where one ended it)."""

    name: str
    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Run:
    """The steps by name; a name may be used once."""

    steps: Mapping[str, Step]
    folder: Path

    def __getitem__(self, name: str) -> Step:
        return self.steps[name]


def machine(scheduler: str, pcpus: int = 1, shift: int = 3) -> Machine:
    """A machine that is large enough for the toolstack."""
    return Machine(scheduler, pcpus, "cores", shift, dom0_mib=DOM0_MIB)


def run(artifacts: Artifacts, what: Machine, script: str, folder: Path) -> Run:
    """Run a script of dom0's shell; LabError when it does not come to its end.

    artifacts: with the toolstack's initramfs.  folder: gets script, records and serial log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SCRIPT_FILE).write_text(script)
    command = qemu.boot(what, artifacts)
    command.argv += ["-serial", f"file:{qemu.SERIAL_FILE}"]
    command.argv += ["-fw_cfg", f"name=opt/nemesis/script,file={SCRIPT_FILE}"]
    (folder / "command.sh").write_text(command.script())
    with Process(command, folder) as process:
        outcome = Watcher(folder, WATCHDOG_S).wait(process)
    serial = folder / qemu.SERIAL_FILE
    if outcome.status != qemu.STATUS_ENDED:
        raise LabError(f"dom0's script did not end: {outcome.reason}", "see the serial log", serial)
    lines = (folder / qemu.RECORDS_FILE).read_text().splitlines()
    return Run(parse(lines, serial), folder)


def parse(lines: Sequence[str], log: Path | None = None) -> dict[str, Step]:
    """The steps of a script that came to its end, in a toolstack that started whole."""
    found = [json.loads(line) for line in lines]
    troubles = [record["what"] for record in found if record["type"] == "trouble"]
    if troubles:
        raise LabError(f"dom0: {'; '.join(troubles)}", "see the serial log", log)
    kinds = [record["type"] for record in found]
    if kinds[:1] != ["ready"] or kinds[-1:] != ["end"]:
        raise LabError("dom0's script left no whole records", "see the serial log", log)
    steps: dict[str, Step] = {}
    for record in found[1:-1]:
        step = Step(record["name"], record["status"], record["stdout"], record["stderr"])
        if step.name in steps:
            raise LabError(f"two steps are called {step.name}", "give each a name of its own")
        steps[step.name] = step
    return steps


def shell(artifacts: Artifacts, what: Machine, folder: Path) -> int:
    """A shell in dom0 on this terminal, until it exits.  Time runs with the host's."""
    folder.mkdir(parents=True, exist_ok=True)
    command = qemu.boot(what, artifacts)
    command.argv = [word.replace("sleep=off", "sleep=on") for word in command.argv]
    command.argv += ["-chardev", "stdio,id=terminal,signal=off", "-serial", "chardev:terminal"]
    if dry_run():
        print(command.lines(), end="")
        return 0
    guard = ["setpriv", "--pdeathsig", "KILL", "--", "env"]
    words = [*guard, *(f"{name}={value}" for name, value in command.env.items()), *command.argv]
    with command.linked(folder):
        status = subprocess.run(words, cwd=folder, check=False).returncode
    if status != qemu.STATUS_ENDED:
        raise LabError(f"QEMU ended with {status}", f"its command was:\n{command.lines()}")
    return 0
