# SPDX-License-Identifier: GPL-2.0-only
"""A panic's backtrace: from a recorded serial log, and by addr2line on a program of our own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from schedlab import cli, panic
from schedlab.panic import Frame, Panic, Place
from tests.fakes import FakeArtifacts
from tests.test_run import SMALL

SERIAL = Path(__file__).parent / "data" / "panic.serial"
PROGRAM = """\
static inline __attribute__((always_inline)) int inner(volatile int *p) { return *p + 1; }
int outer(volatile int *p)
{
    return inner(p);
}
"""


@pytest.fixture(scope="module")
def symbols(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program of one function, at a known address, into which another is inlined."""
    folder = tmp_path_factory.mktemp("symbols")
    (folder / "a.c").write_text(PROGRAM)
    words = ["gcc", "-g", "-O2", "-nostdlib", "-static", "-Wl,-e,outer,-Ttext=0x400000", "a.c"]
    subprocess.run([*words, "-o", "a.elf"], cwd=folder, check=True)
    return folder / "a.elf"


def test_recorded() -> None:
    """A page fault in the hypervisor, as it came out of the serial port."""
    found = panic.parse(SERIAL.read_text())
    assert found is not None and found.cpu == 0
    assert found.message.startswith("FATAL PAGE FAULT / [error_code=0010] / Faulting linear")
    assert [frame.symbol.rpartition("#")[2] for frame in found.frames] == [
        "do_schedule+0xb3/0x440",
        "schedule+0x1f8/0x260",
        "__do_softirq+0x5a/0xa0",
        "process_softirqs+0x6/0x20",
    ]
    assert found.frames[0] == Frame(
        0xFFFF82D040254D03, "S", "common/sched/core.c#do_schedule+0xb3/0x440"
    )


def test_no_panic() -> None:
    """A trace without a panic (a debug key's) is none, and neither is an empty log."""
    assert panic.parse(SERIAL.read_text().split("(XEN) Panic on")[0]) is None
    assert panic.parse("") is None
    assert panic.explain(SERIAL.with_name("nothing"), SERIAL) == ""


def test_only_the_trace_before_it() -> None:
    """Of several traces the last one before the panic counts; what follows the panic does not."""
    text = SERIAL.read_text()
    key = "(XEN) Xen call trace:\n(XEN)    [<ffff82d040200000>] R other+0x1/0x2\n(XEN)\n"
    found = panic.parse(key + text + key)
    assert found == panic.parse(text)


def test_without_trace() -> None:
    """panic() prints none by itself."""
    found = panic.parse("(XEN) Panic on CPU 3:\n(XEN) out of luck\n(XEN) ****\n")
    assert found == Panic(3, "out of luck", ())
    assert "no call trace" in panic.render(found, lambda addresses: [])


def test_inlined(symbols: Path) -> None:
    """A frame is shown with what was inlined there, innermost first, each with its line."""
    frames = (Frame(0x400000, "R", "a.c#outer+0/0x10"),)
    text = panic.render(Panic(0, "x", frames), panic.addr2line(symbols))
    lines = text.splitlines()
    assert lines[0] == "Panic on CPU 0: x"
    assert lines[1].split()[:3] == ["R", "inner", "(inlined)"] and lines[1].endswith("a.c:1")
    assert lines[2].split()[:2] == ["R", "outer+0/0x10"] and lines[2].endswith("a.c:4")


def test_return_addresses() -> None:
    """What is returned to is looked up at the call before it; where it was, at that place."""
    asked: list[int] = []

    def resolve(addresses: Sequence[int]) -> list[list[Place]]:
        asked.extend(addresses)
        return [[Place("f", "f.c:1")] for _ in addresses]

    frames = tuple(Frame(0x100, kind, "f+0/1") for kind in "RSF")
    assert "some are stale" in panic.render(Panic(0, "", frames), resolve)
    assert asked == [0x100, 0xFF, 0xFF]


def test_unresolved_is_said(tmp_path: Path) -> None:
    """No symbols: the trace as Xen printed it, and why it is not more."""
    text = panic.explain(SERIAL, tmp_path / "nothing")
    assert "not resolved: addr2line" in text and "do_schedule+0xb3/0x440" in text


@pytest.mark.parametrize("when", ["", "boot-"])
def test_in_a_run(
    tmp_path: Path,
    fake_build: Callable[[str, str], FakeArtifacts],
    own_build_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    when: str,
) -> None:
    """The failure's text has the backtrace, as has the case's folder; at boot the error has it."""
    (tmp_path / "small.toml").write_text(SMALL)
    monkeypatch.setenv("FAKE", f"{when}panic-traced")
    words = ["run", str(tmp_path / "small.toml"), "--variant", "patched", "--no-reference"]
    monkeypatch.setattr("schedlab.run.calibrate", lambda *_: None)
    assert cli.main([*words, "--out", str(tmp_path / "results")], fake_build) == 2
    out, err = capsys.readouterr()
    assert "do_schedule+0xb3/0x440" in (err if when else out)
    if not when:
        (kept,) = tmp_path.glob("results/*/credit2-1p-patched/backtrace.txt")
        assert "FATAL PAGE FAULT" in kept.read_text()
