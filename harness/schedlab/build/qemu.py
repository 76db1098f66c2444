# SPDX-License-Identifier: GPL-2.0-only
"""QEMU: the pinned packages, unpacked into the store; the system's QEMU is not looked at."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from schedlab.build import fetch
from schedlab.build.layout import Layout
from schedlab.core.command import dry_run, query, run
from schedlab.core.errors import LabError


@dataclass(frozen=True)
class Qemu:
    """How to start it: program, additions to the environment, arguments that name its data, what it
    says it is.
    """

    argv0: Path
    env: dict[str, str] = field(default_factory=dict)
    data_args: list[str] = field(default_factory=list)
    version: str = ""


def qemu(layout: Layout) -> Qemu:
    """The QEMU to use.  NEMESIS_QEMU in the environment names another program (calibration has to
    accept it).
    """
    other = os.environ.get("NEMESIS_QEMU")
    if other:
        return Qemu(Path(other), version=_version(Path(other)))
    fetched = fetch.fetch(layout, "qemu")
    log = layout.log("qemu")

    def make(folder: Path) -> None:
        for package in fetched.files:
            run(["dpkg", "-x", package, folder], log=log)
        if not dry_run():
            _version(folder / "usr/bin/qemu-system-x86_64")

    inputs = {"recipe": "1", "packages": fetched.choice.inputs}
    entry = layout.store.get("qemu", inputs, make, title=f"qemu {fetched.choice.version}")
    program = entry / "usr/bin/qemu-system-x86_64"
    data = ["-L", str(entry / "usr/share/qemu"), "-L", str(entry / "usr/share/seabios")]
    return Qemu(program, {}, data, fetched.choice.version)


def _version(program: Path) -> str:
    """What the program says; LabError names the shared libraries it misses."""
    try:
        said = query([program, "--version"])
    except LabError as error:
        missing = re.findall(r"(\S+): cannot open shared object file", error.what)
        if missing:
            raise LabError(
                f"QEMU needs {missing[0]}", "`make setup` installs harness/packages.txt"
            ) from error
        raise
    match = re.search(r"version (\S+(?: \([^)]*\))?)", said)
    return match[1] if match else said.strip()
