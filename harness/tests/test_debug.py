# SPDX-License-Identifier: GPL-2.0-only
"""``lab gdb`` without a machine: times, commands, and the alarm on a machine of our own making."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
from schedlab import alarm, cli, debug
from schedlab.core.errors import LabError
from schedlab.debug import Stop
from schedlab.gdb import Debugger
from schedlab.qemu import Process
from tests.fakes import FakeArtifacts, fake_artifacts

NMI, EXIT = 0xFFFF82D040201EA0, 0xFFFF82D040201730
SYMBOLS = alarm.Symbols(NMI, EXIT)
HPET, IO_APIC = 0xFED00000, 0xFEC00000
IRETQ_AT = 164


@pytest.mark.parametrize(
    ("text", "ns", "of_scenario"),
    [("1.5s", 1_500_000_000, True), ("+20ms", 20_000_000, False), ("300ns", 300, True)],
)
def test_times(text: str, ns: int, of_scenario: bool) -> None:
    """Exact, though written with a point."""
    assert debug.parse_time(text) == (ns, of_scenario)


@pytest.mark.parametrize("text", ["1.5", "s", "-1s", "1.5 s", "1e3s", ""])
def test_no_times(text: str) -> None:
    """Refused, with an example."""
    with pytest.raises(LabError, match="is no time"):
        debug.parse_time(text)


def test_command(tmp_path: Path) -> None:
    """GDB gets the socket, the pCPU that stopped, what to do; --batch has something to do."""
    built = fake_artifacts(tmp_path, "patched")
    stop = Stop(2, ())
    words = debug.commands(built, Path("/s"), Path("/src"), stop, True, ())
    assert words[:4] == ["gdb", "-q", "-nx", "-batch"] and words[-1] == str(built.xen_syms)
    assert {"target remote /s", "thread 3", "directory /src", *debug.BATCH} <= set(words)
    words = debug.commands(built, Path("/s"), Path("/src"), stop, False, ["info threads"])
    assert "-batch" not in words and "info threads" in words and "backtrace" not in words


def test_neither(
    tmp_path: Path,
    fake_build: Callable[[str, str], FakeArtifacts],
    own_build_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without T and B there is nowhere to stop."""
    assert cli.main(["gdb", "ten_percent"], fake_build) == 2
    assert "neither T nor B" in capsys.readouterr().err


class Machine(Debugger):
    """Four pCPUs that stand still; each ``go`` brings one more to its NMI."""

    def __init__(self, cpus: int, hpet: int = 3) -> None:
        self.rip = [0x1000 + cpu for cpu in range(cpus)]
        self.rsp = [0x8000 + 0x100 * cpu for cpu in range(cpus)]
        self.eflags = [2] * cpus
        self.memory: dict[int, bytes] = {EXIT: bytes(IRETQ_AT) + b"\x48\xcf" + bytes(90)}
        self.devices: dict[int, int] = {HPET + 0x10: hpet}
        self.counter = 1000
        self.log: list[tuple[int, int]] = []
        self.breakpoints: set[int] = set()
        self.mode: list[bool] = []
        self.late = list(range(cpus))

    def interrupt(self, cpu: int, rip: int, cs: int) -> None:
        """The NMI's frame on the pCPU's stack."""
        words = (rip, cs, 0x246, 0x7777, 0)
        self.memory[self.rsp[cpu]] = b"".join(word.to_bytes(8, "little") for word in words)

    def insert(self, address: int) -> None:
        self.breakpoints.add(address)

    def remove(self, address: int) -> None:
        self.breakpoints.remove(address)

    def go(self) -> None:
        if self.late:
            self.rip[self.late.pop()] = NMI

    def registers(self, cpu: int) -> dict[str, int]:
        return {"rip": self.rip[cpu], "rsp": self.rsp[cpu], "eflags": self.eflags[cpu]}

    def set_register(self, cpu: int, name: str, value: int) -> None:
        {"rip": self.rip, "rsp": self.rsp, "eflags": self.eflags}[name][cpu] = value

    def read(self, address: int, size: int) -> bytes:
        if self.mode:
            value = self.counter if address == HPET + 0xF0 else self.devices[address]
            return value.to_bytes(size, "little")
        return self.memory[address][:size]

    def write(self, address: int, data: bytes) -> None:
        assert self.mode, "a device, by its physical address"
        self.log.append((address, int.from_bytes(data, "little")))

    @contextmanager
    def physical(self) -> Iterator[None]:
        self.mode.append(True)
        try:
            yield
        finally:
            self.mode.pop()


def test_alarm_is_set() -> None:
    """NMI to everybody by the HPET's pin; the comparator before the timer is switched on."""
    machine = Machine(1)
    alarm.set_alarm(machine, 50_000_000_000)
    tick = 1000 + 5_000_000_000
    assert machine.log == [
        *((IO_APIC, 0x15), (IO_APIC + 0x10, 0xFF000000), (IO_APIC, 0x14), (IO_APIC + 0x10, 0x400)),
        *((HPET + 0x148, tick & 0xFFFFFFFF), (HPET + 0x14C, tick >> 32), (HPET + 0x140, 0x404)),
    ]


def test_no_hpet() -> None:
    """A clock that stands still would never ring."""
    with pytest.raises(LabError, match="has not started the HPET"):
        alarm.set_alarm(Machine(1, hpet=0), 1)


def test_gather() -> None:
    """All come to their NMI; those in Xen are put back, those in guests return by an iretq."""
    machine = Machine(4)
    for cpu in range(4):
        machine.interrupt(cpu, 0x4000 + cpu, 0xE033 if cpu == 2 else 0xE008)
    machine.insert(NMI)
    machine.go()
    waits: list[int] = []
    found = alarm.gather(machine, SYMBOLS, 4, lambda: waits.append(1))
    assert len(waits) == 3 and machine.breakpoints == set()
    assert [one.in_xen for one in found] == [True, True, False, True]
    assert machine.rip == [0x4000, 0x4001, EXIT + IRETQ_AT, 0x4003]
    assert machine.rsp == [0x7777, 0x7777, 0x8200, 0x7777] and machine.eflags[0] == 0x246
    assert (HPET + 0x140, 0) in machine.log and machine.log[-1] == (IO_APIC + 0x10, 0x10000)


def test_one_never_comes() -> None:
    """That not all stand is an error, not a guess."""
    machine = Machine(2)
    machine.late = [0]
    machine.insert(NMI)
    machine.go()
    with pytest.raises(LabError, match="not all 2 pCPUs"):
        alarm.gather(machine, SYMBOLS, 2, lambda: None)


def test_its_end_is_no_stop(tmp_path: Path) -> None:
    """QEMU says that it exits, and closes at once: the machine has not stopped anywhere."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "gdb"))
        server.listen()
        with Debugger(tmp_path / "gdb", cast(Process, None)) as debugger:
            client, _ = server.accept()
            debugger.go()
            client.recv(16)
            client.sendall(b"$W00#b7")
            client.close()
            assert not debugger.stopped() and not debugger.stopped()
