#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""A QEMU that boots nothing: it knows the lab's command line, writes ideal records, dies on demand.

FAKE in the environment is how a run without monitor behaves, or with "boot-" before it a run with
one: hang, panic, panic-traced, kernel-panic, guest-crash, exit, silent, gave-up, slow, half,
no-groups, half-share, a-little-more, no-space, no-breakpoint, halt, kvm-emulation.

FAKE_PID: a file that gets the process id.
"""

import json
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import synthetic  # type: ignore[import]  # noqa: E402

SERIAL = Path("serial.log")
RECORDS = Path("records.jsonl")


def say(text: str) -> None:
    with SERIAL.open("a") as serial:
        serial.write(text)


def misbehave(how: str) -> None:
    if how == "hang":
        say("(XEN) all is well so far\n")
        time.sleep(600)
    if how == "panic":
        say("(XEN) ****************************************\n(XEN) Panic on CPU 0:\n")
        say("(XEN) Assertion 'false' failed at credit2.c:1\n")
        time.sleep(600)
    if how == "panic-traced":
        say((Path(__file__).resolve().parent / "data" / "panic.serial").read_text())
        time.sleep(600)
    if how == "kernel-panic":
        say("Kernel panic - not syncing: Attempted to kill init!\n")
        time.sleep(600)
    if how == "guest-crash":
        say("(XEN) Domain 1 (vcpu#0) crashed on cpu#2:\n")
        time.sleep(600)
    if how == "exit":
        print("fake: no such device", file=sys.stderr)
        sys.exit(7)


def run(scenario: Any, how: str) -> None:
    misbehave(how)
    records = synthetic.records(scenario)
    if how == "no-groups":
        for record in records:
            if record.get("op") in ("join", "leave"):
                record["errno"] = "ENOSYS"
    if how == "half-share":
        for record in records:
            for domain in record.get("domains", ()):
                domain["cpu_ns"] //= 2
    if how == "a-little-more":
        for record in records:
            for domain in record.get("domains", ()):
                domain["cpu_ns"] += 7 * record["i"]
    if how == "gave-up":
        RECORDS.write_text('{"r":"error","what":"no memory for master","errno":"ENOMEM"}\n')
        sys.exit(3)
    if how == "half":
        RECORDS.write_text(synthetic.lines(records)[:900])
        sys.exit(0)
    if how == "silent":
        sys.exit(0)
    for record in records:
        with RECORDS.open("a") as file:
            file.write(synthetic.lines([record]))
        if how == "slow":
            time.sleep(0.2)
    if how == "halt":
        say("(XEN) Hardware Dom0 halted: halting machine\n")
        time.sleep(0.1)
    sys.exit(1)


def monitor(path: str, how: str) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    connection, _ = server.accept()
    stream = connection.makefile("rw")

    def answer(value: object) -> None:
        stream.write(json.dumps(value) + "\n")
        stream.flush()

    answer({"QMP": {"version": {}, "capabilities": []}})
    for line in stream:
        request = json.loads(line)
        name = request["execute"]
        if name == "migrate":
            if how == "no-space":
                answer({"error": {"class": "GenericError", "desc": "No space left on device"}})
                continue
            Path(request["arguments"]["uri"].removeprefix("file:")).write_bytes(b"state")
            answer({"event": "STOP"})
            answer({"return": {}})
        elif name == "query-migrate":
            answer({"return": {"status": "completed"}})
        else:
            answer({"return": {}})


def stub(path: str, how: str) -> None:
    """A GDB stub that knows a breakpoint, and boots to it."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    connection, _ = server.accept()

    def send(text: str) -> None:
        connection.sendall(b"$%b#%02x" % (text.encode(), sum(text.encode()) % 256))

    read = b""
    while data := connection.recv(100):
        read += data
        while (end := read.find(b"#")) >= 0 and len(read) >= end + 3:
            packet, read = read[read.find(b"$") + 1 : end].decode(), read[end + 3 :]
            if packet.startswith("Z1,"):
                send("E01" if how == "no-breakpoint" else "OK")
            elif packet == "c":
                try:
                    misbehave(how)
                except SystemExit as end_of_thread:
                    os._exit(int(end_of_thread.code or 0))
                RECORDS.write_text(synthetic.lines([synthetic.HELLO, synthetic.READY]))
                send("T05thread:01;")


def socket_of(argv: list[str], option: str) -> str:
    return argv[argv.index(option) + 1].removeprefix("unix:").split(",")[0]


def main() -> None:
    argv = sys.argv[1:]
    SERIAL.touch()
    RECORDS.touch()
    behaviour = os.environ.get("FAKE", "")
    if "FAKE_PID" in os.environ:
        with open(os.environ["FAKE_PID"], "a") as file:
            file.write(f"{os.getpid()}\n")
    if "-qmp" in argv:
        how = behaviour.removeprefix("boot-") if behaviour.startswith("boot-") else ""
        threading.Thread(target=stub, args=(socket_of(argv, "-gdb"), how), daemon=True).start()
        monitor(socket_of(argv, "-qmp"), how)
        return
    if behaviour == "kvm-emulation":
        print("KVM internal error. Suberror: 1\nemulation failure", file=sys.stderr, flush=True)
        time.sleep(600)
    if Path("scenario.json").read_text() == "none\n":
        misbehave(behaviour)
        RECORDS.write_text(synthetic.lines([synthetic.HELLO, synthetic.READY]))
        time.sleep(600)
    scenario = json.loads(Path("scenario.json").read_text())
    run(scenario, "" if behaviour.startswith("boot-") else behaviour)


main()
