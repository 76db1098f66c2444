# SPDX-License-Identifier: GPL-2.0-only
"""The small part of GDB's remote protocol that the lab needs: run to an instruction, look around.

QEMU's stub also gives access to physical addresses, devices included: the machine stands still, so
this happens at no instant of wall time.
"""

from __future__ import annotations

import re
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from schedlab.core.errors import LabError
from schedlab.qemu import Process, connected

_POLL_S = 0.02
# In the order of the protocol's g packet for x86-64; eflags, cs, ss and more follow.
REGISTERS = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip"),
)


class Debugger:
    """A client of QEMU's stub, on a unix socket.  The machine stands still when it connects."""

    def __init__(self, path: Path, process: Process, timeout_s: float = 20.0) -> None:
        self._socket = connected(path, process, "GDB stub", timeout_s)
        self._timeout_s = timeout_s
        self._read = b""
        self.stop: str | None = None
        self._socket.setblocking(False)

    def __enter__(self) -> Debugger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def run_to(self, address: int) -> None:
        """Let it run until any pCPU is about to execute ``address``; ``stopped`` tells when."""
        self.insert(address)
        self.go()

    def insert(self, address: int) -> None:
        """A breakpoint, for all pCPUs."""
        self._expect_ok(f"Z1,{address:x},1", "a breakpoint")

    def remove(self, address: int) -> None:
        """Take a breakpoint away."""
        self._expect_ok(f"z1,{address:x},1", "to forget a breakpoint")

    def go(self) -> None:
        """Let it run; ``stopped`` tells when it no longer does."""
        self.stop = None
        self._send("c")

    def stopped(self) -> bool:
        """Whether it stands again; ``stop`` then says why."""
        if self.stop is None:
            packet = self._packet()
            # W and X: QEMU ends, and its exit status says more.
            self.stop = None if packet is not None and packet[:1] in ("W", "X") else packet
        return self.stop is not None

    def stopped_cpu(self) -> int:
        """The pCPU that came to a breakpoint."""
        match = re.search(r"thread:(?:p[0-9a-f]+\.)?([0-9a-f]+)", self.stop or "")
        if match is None:
            raise LabError(f"QEMU's GDB stub does not say who stopped: {self.stop}", "see its log")
        return int(match[1], 16) - 1

    def registers(self, cpu: int) -> dict[str, int]:
        """The general registers of a pCPU."""
        self._expect_ok(f"Hg{cpu + 1:x}", f"pCPU {cpu}")
        data = bytes.fromhex(self.ask("g"))
        found = {
            name: int.from_bytes(data[8 * i : 8 * i + 8], "little")
            for i, name in enumerate(REGISTERS)
        }
        at = 8 * len(REGISTERS)
        for name in ("eflags", "cs", "ss"):
            found[name] = int.from_bytes(data[at : at + 4], "little")
            at += 4
        return found

    def set_register(self, cpu: int, name: str, value: int) -> None:
        """Write a general register, or eflags."""
        self._expect_ok(f"Hg{cpu + 1:x}", f"pCPU {cpu}")
        number, size = (17, 4) if name == "eflags" else (REGISTERS.index(name), 8)
        self._expect_ok(f"P{number:x}={value.to_bytes(size, 'little').hex()}", f"to set {name}")

    def read(self, address: int, size: int) -> bytes:
        """Memory, by the addresses of the pCPU that was asked last."""
        answer = self.ask(f"m{address:x},{size:x}")
        if answer.startswith("E"):
            raise LabError(f"QEMU's GDB stub cannot read {address:#x}: {answer}", "see its log")
        return bytes.fromhex(answer)

    def write(self, address: int, data: bytes) -> None:
        """The same, written."""
        self._expect_ok(f"M{address:x},{len(data):x}:{data.hex()}", f"to write {address:#x}")

    @contextmanager
    def physical(self) -> Iterator[None]:
        """Addresses are physical meanwhile, and reach devices."""
        self._expect_ok("Qqemu.PhyMemMode:1", "physical addresses")
        try:
            yield
        finally:
            self._expect_ok("Qqemu.PhyMemMode:0", "virtual addresses")

    def ask(self, text: str) -> str:
        """The answer to a packet; the machine stands still."""
        self._send(text)
        deadline = time.monotonic() + self._timeout_s
        while (answer := self._packet()) is None:
            if time.monotonic() > deadline:
                raise LabError("QEMU's GDB stub does not answer", "see its log")
            select.select([self._socket], [], [], _POLL_S)
        return answer

    def _expect_ok(self, text: str, what: str) -> None:
        answer = self.ask(text)
        if answer != "OK":
            raise LabError(f"QEMU's GDB stub refuses {what}: {answer or 'empty'}", "see its log")

    def _send(self, text: str) -> None:
        body = text.encode()
        self._socket.sendall(b"$%b#%02x" % (body, sum(body) % 256))

    def _packet(self) -> str | None:
        """The next whole packet, acknowledged; None while there is none."""
        try:
            self._read += self._socket.recv(4096)
        except (BlockingIOError, ConnectionError):
            pass  # nothing yet; or QEMU is gone, and its end says more
        first, last = self._read.find(b"$"), self._read.find(b"#")
        if first < 0 or last < first or len(self._read) < last + 3:
            return None
        body, self._read = self._read[first + 1 : last], self._read[last + 3 :]
        with suppress(ConnectionError):
            self._socket.sendall(b"+")
        return body.decode(errors="replace")
