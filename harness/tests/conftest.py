# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures: a lab of one's own, with fake builds, or with the real ones for acceptance tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HARNESS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(HARNESS), str(HARNESS / "tests")]


@dataclass(frozen=True)
class FakeQemu:
    """Stands for the pinned QEMU."""

    argv0: Path = HARNESS / "tests" / "fake_qemu.py"
    env: dict[str, str] = field(default_factory=dict)
    data_args: list[str] = field(default_factory=list)
    version: str = "10.0.2-fake"


@dataclass(frozen=True)
class FakeArtifacts:
    """Stands for a build; its files are empty."""

    xen: Path
    kernel: Path
    initramfs: Path
    guests: dict[str, Path]
    qemu: FakeQemu
    hashes: dict[str, str]


@pytest.fixture
def fake_build(tmp_path: Path) -> Callable[[str, str], FakeArtifacts]:
    """A builder of fake artifacts, for cli.main()."""

    def build(xen: str, variant: str) -> FakeArtifacts:
        folder = tmp_path / f"fake-{xen}-{variant}"
        folder.mkdir(exist_ok=True)
        files = {name: folder / name for name in ("xen", "kernel", "initramfs", "burner-pv")}
        for path in files.values():
            path.touch()
        hashes = {"xen": variant, "kernel": "1", "initramfs": "2", "qemu": "3"}
        return FakeArtifacts(
            files["xen"],
            files["kernel"],
            files["initramfs"],
            {"burner-pv": files["burner-pv"]},
            FakeQemu(),
            hashes,
        )

    return build


@pytest.fixture
def own_build_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build folder for this test alone."""
    folder = tmp_path / "build"
    monkeypatch.setenv("NEMESIS_BUILD", str(folder))
    monkeypatch.delenv("DRY", raising=False)
    return folder


@pytest.fixture
def lab() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs harness/lab as a user does, with the builds of this tree."""

    def call(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(HARNESS / "lab"), *words],
            env={**os.environ, **(env or {})},
            text=True,
            capture_output=True,
            check=False,
        )

    return call
