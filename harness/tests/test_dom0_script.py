# SPDX-License-Identifier: GPL-2.0-only
"""The toolstack's part of the lab without its builds: records of a script, commands, cache keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from schedlab import toolstack
from schedlab.build import xen
from schedlab.build.image import Member, cpio
from schedlab.build.toolstack import _python_modules
from schedlab.core.errors import LabError

from tests.fakes import fake_artifacts

READY, END = '{"type":"ready"}', '{"type":"end","status":0}'


def step(name: str, status: int = 0) -> str:
    """A record, as labctl writes it."""
    record = {"type": "step", "name": name, "status": status, "stdout": "out", "stderr": "err"}
    return json.dumps(record)


def test_steps_by_name() -> None:
    """What each command said and how it ended."""
    steps = toolstack.parse([READY, step("a"), step("b", 137), END])
    assert list(steps) == ["a", "b"]
    assert steps["b"] == toolstack.Step("b", 137, "out", "err")


@pytest.mark.parametrize("lines", [[], [READY], [READY, step("a")], [step("a"), END]])
def test_silence_is_no_success(lines: list[str]) -> None:
    """A script that did not come to its end has no results."""
    with pytest.raises(LabError, match="no whole records"):
        toolstack.parse(lines)


def test_a_crippled_toolstack_is_an_error() -> None:
    """What the steps say is worth nothing where the toolstack did not start well."""
    lines = ['{"type":"trouble","what":"xen-init-dom0 failed"}', READY, step("a"), END]
    with pytest.raises(LabError, match="dom0: xen-init-dom0 failed"):
        toolstack.parse(lines)


def test_a_name_is_used_once() -> None:
    """Two steps of one name would hide each other."""
    with pytest.raises(LabError, match="two steps are called a"):
        toolstack.parse([READY, step("a"), step("a"), END])


def test_dom0_has_room() -> None:
    """The toolstack's dom0 is larger than the controller's, and everything else is the same."""
    small = toolstack.Machine("credit", 2, "cores", 3).arguments()
    large = toolstack.machine("credit", 2).arguments()
    assert small[:-1] == large[:-1]
    assert "dom0_mem=64M,max:64M" in small[-1] and "dom0_mem=128M,max:128M" in large[-1]


def test_shell_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """DRY=1 prints the command, with the terminal as serial line and time that waits for it."""
    monkeypatch.setenv("DRY", "1")
    built = fake_artifacts(tmp_path, "patched")
    assert toolstack.shell(built, toolstack.machine("credit2"), tmp_path / "shell") == 0
    printed = capsys.readouterr().out
    assert "stdio,id=terminal" in printed and "sleep=on" in printed
    assert "opt/nemesis/script" not in printed


@pytest.mark.parametrize(
    ("path", "libraries", "whole"),
    [
        ("tools/libs/light/libxl_scheddom.c", False, True),
        ("tools/include/libxl.h", False, True),
        ("tools/xl/xl_scheddom.c", False, True),
        ("tools/python/xen/lowlevel/xc/xc.c", False, True),
        ("tools/libs/ctrl/xc_scheddom.c", True, True),
        ("tools/include/xenctrl.h", True, True),
        ("xen/include/public/domctl.h", True, True),
        ("xen/common/sched/credit.c", False, False),
        ("docs/man/xl.1.pod.in", False, False),
    ],
)
def test_what_rebuilds_what(path: str, libraries: bool, whole: bool) -> None:
    """An edit of libxl, xl or Python builds the toolstack anew, and not the controller."""
    assert (xen._NOT_FOR_LIBRARIES.match(path) is None) == libraries
    assert (xen._NOT_FOR_TOOLSTACK.match(path) is None) == whole


def test_python_for_dom0_is_the_same_each_time() -> None:
    """The modules are compiled to the same bytes, and their names say so."""
    first, second = list(_python_modules()), list(_python_modules())
    assert first == second and len(first) > 30
    assert all(member.name.endswith(".pyc") for member in first)
    assert cpio(first) == cpio(second)
    assert any(member.name == "usr/lib/python3.11/os.pyc" for member in first)
    assert isinstance(first[0], Member)
