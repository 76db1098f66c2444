# SPDX-License-Identifier: GPL-2.0-only
"""Builds that are none: what the lab is given in unit tests."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).resolve().parent
HARNESS = TESTS.parent


@dataclass(frozen=True)
class FakeQemu:
    """Stands for the pinned QEMU."""

    argv0: Path = TESTS / "fake_qemu.py"
    env: Mapping[str, str] = field(default_factory=dict)
    data_args: Sequence[str] = ()
    version: str = "10.0.2-fake"


@dataclass(frozen=True)
class FakeArtifacts:
    """Stands for a build; all its files are one empty file."""

    file: Path
    variant: str
    qemu: FakeQemu = FakeQemu()

    @property
    def xen(self) -> Path:
        """A hypervisor."""
        return self.file

    @property
    def xen_syms(self) -> Path:
        """Its symbols."""
        return self.file

    @property
    def kernel(self) -> Path:
        """A kernel."""
        return self.file

    @property
    def initramfs(self) -> Path:
        """An image."""
        return self.file

    @property
    def guests(self) -> Mapping[str, Path]:
        """Two guests."""
        return {"burner-pv": self.file, "bursty-pv": self.file}

    @property
    def hashes(self) -> Mapping[str, str]:
        """Made up."""
        made_up = {"kernel": "1", "initramfs": "2", "qemu": "3", "guest/burner-pv": "4"}
        made_up["guest/bursty-pv"] = "6"
        return {"xen": self.variant + os.environ.get("FAKE_XEN", ""), **made_up}

    @property
    def origin(self) -> Mapping[str, str]:
        """Made up, and the environment's where that says something of it."""
        series = os.environ.get("FAKE_SERIES", "5")
        return {"series": series, "toolchain": os.environ.get("FAKE_TOOLCHAIN", "gcc 1")}


def fake_artifacts(folder: Path, variant: str) -> FakeArtifacts:
    """Fake artifacts whose file is in ``folder``."""
    file = folder / "empty"
    file.touch()
    return FakeArtifacts(file, variant)
