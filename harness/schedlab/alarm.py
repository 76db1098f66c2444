# SPDX-License-Identifier: GPL-2.0-only
"""Stopping a machine at an instant of virtual time, all pCPUs at once.

A breakpoint is at an instruction, and each stop on the way would end a turn of QEMU's round robin
early, move the clock on to the next timer, and so move the schedule.  So a timer of the machine
that nobody uses does it: the third of the HPET, by the I/O APIC, as an NMI to all pCPUs, and a
breakpoint where Xen takes NMIs.  Each pCPU stands there before it executes anything after that
instant, whichever comes first; then it is put back to what was interrupted, and Xen never sees the
NMI.  Up to then nothing is other than without it, save that QEMU's last turn ends at that instant.

Virtual time is QEMU's count of instructions (an instruction takes 2^shift ns); the HPET, which
Xen has started, counts it in units of 10 ns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from schedlab.core.errors import LabError
from schedlab.gdb import Debugger

_HPET = 0xFED00000
_HPET_CONFIG, _HPET_COUNTER = _HPET + 0x10, _HPET + 0xF0
_TIMER_CONFIG, _TIMER_COMPARE = _HPET + 0x140, _HPET + 0x148
_TICK_NS = 10
_ENABLED = 1
# Interrupts on, as an edge, once, to the only pin that QEMU's "pc" lets the HPET have.
_PIN = 2
_TIMER_ON = (_PIN << 9) | (1 << 2)
_IO_APIC = 0xFEC00000
_IO_APIC_DATA = _IO_APIC + 0x10
_NMI, _MASKED, _EVERYBODY = 0x400, 0x10000, 0xFF000000
_XEN_CS = 0xE008
_IRETQ = b"\x48\xcf"
_TURNS = 64


@dataclass(frozen=True)
class Symbols:
    """Addresses in xen-syms: the entry of NMIs, and the end of the way out of exceptions."""

    nmi: int
    restore_all_xen: int


@dataclass(frozen=True)
class Interrupted:
    """What a pCPU was doing; ``in_xen``, or in a guest."""

    cpu: int
    rip: int
    in_xen: bool


def set_alarm(debugger: Debugger, ns: int) -> None:
    """The HPET is to send everybody an NMI so many ns of virtual time from now.  LabError when it
    does not run.
    """
    with debugger.physical():
        if not int.from_bytes(debugger.read(_HPET_CONFIG, 4), "little") & _ENABLED:
            raise LabError("this Xen has not started the HPET", "T cannot be used with it; B can")
        tick = int.from_bytes(debugger.read(_HPET_COUNTER, 8), "little") + ns // _TICK_NS
        _route(debugger, _NMI, _EVERYBODY)
        _write(debugger, _TIMER_COMPARE, tick & 0xFFFFFFFF)
        _write(debugger, _TIMER_COMPARE + 4, tick >> 32)
        _write(debugger, _TIMER_CONFIG, _TIMER_ON)


def clear_alarm(debugger: Debugger) -> None:
    """No further NMI."""
    with debugger.physical():
        _write(debugger, _TIMER_CONFIG, 0)
        _route(debugger, _MASKED, 0)


def gather(
    debugger: Debugger, symbols: Symbols, cpus: int, wait: Callable[[], None]
) -> list[Interrupted]:
    """The first pCPU stands at its NMI: let the others come there, then undo the NMI on all.

    A pCPU that stands at a breakpoint stays there when it is told to go, so nothing is executed in
    between.  ``wait`` returns when the machine stands again.
    """
    for _ in range(_TURNS):
        if all(debugger.registers(cpu)["rip"] == symbols.nmi for cpu in range(cpus)):
            break
        debugger.go()
        wait()
    else:
        raise LabError(f"not all {cpus} pCPUs stopped at the given time", "see the serial log")
    debugger.remove(symbols.nmi)
    clear_alarm(debugger)
    return [_undo(debugger, symbols, cpu) for cpu in range(cpus)]


def _undo(debugger: Debugger, symbols: Symbols, cpu: int) -> Interrupted:
    """Put a pCPU back into Xen where it was.  A guest's mode cannot be written from outside: there
    it is left at an iretq, with which it returns to the guest when it goes on.
    """
    now = debugger.registers(cpu)
    frame = debugger.read(now["rsp"], 40)
    rip, cs, eflags, rsp, _ = (
        int.from_bytes(frame[i : i + 8], "little") for i in range(0, len(frame), 8)
    )
    in_xen = cs == _XEN_CS
    if in_xen:
        for name, value in (("rip", rip), ("rsp", rsp), ("eflags", eflags)):
            debugger.set_register(cpu, name, value)
    else:
        code = debugger.read(symbols.restore_all_xen, 256)
        at = code.find(_IRETQ)
        if at < 0:
            raise LabError("no iretq after restore_all_xen", "T cannot be used with this Xen")
        debugger.set_register(cpu, "rip", symbols.restore_all_xen + at)
    return Interrupted(cpu, rip, in_xen)


def _route(debugger: Debugger, low: int, high: int) -> None:
    for index, value in ((0x11, high), (0x10, low)):
        _write(debugger, _IO_APIC, index + 2 * _PIN)
        _write(debugger, _IO_APIC_DATA, value)


def _write(debugger: Debugger, address: int, value: int) -> None:
    debugger.write(address, value.to_bytes(4, "little"))
