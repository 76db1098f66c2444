# SPDX-License-Identifier: GPL-2.0-only
"""The small part of GDB's remote protocol that the lab needs: run to an instruction."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from types import TracebackType

from schedlab.core.errors import LabError
from schedlab.qemu import Process

_POLL_S = 0.02


class Debugger:
    """A client of QEMU's stub, on a unix socket.  The machine stands still when it connects."""

    def __init__(self, path: Path, process: Process, timeout_s: float = 20.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._timeout_s = timeout_s
        self._read = b""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self._socket.connect(str(path))
                break
            except (FileNotFoundError, ConnectionRefusedError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    self._socket.close()
                    raise LabError("QEMU did not open its GDB stub", "see its log") from error
                time.sleep(_POLL_S)
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
        self._send(f"Z1,{address:x},1")
        deadline = time.monotonic() + self._timeout_s
        while (answer := self._packet()) is None:
            if time.monotonic() > deadline:
                raise LabError("QEMU's GDB stub does not answer", "see its log")
            time.sleep(_POLL_S)
        if answer != "OK":
            raise LabError(f"QEMU's GDB stub refuses a breakpoint: {answer}", "see its log")
        self._send("c")

    def stopped(self) -> bool:
        """Whether it came there."""
        return self._packet() is not None

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
        self._socket.sendall(b"+")
        return body.decode(errors="replace")
