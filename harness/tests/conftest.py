# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures: a lab of one's own, with fake builds, or with the real ones for acceptance tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Who is started in the background ignores SIGINT, and so would what the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
HARNESS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HARNESS))

from schedlab import kvm  # noqa: E402

from tests.fakes import FakeArtifacts, fake_artifacts  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `lab mutants` gives the tests of the toolstack."""
    parser.addoption("--toolstack", type=Path, help="boot this initramfs for the toolstack's")


@pytest.fixture
def fake_build(tmp_path: Path) -> Callable[[str, str], FakeArtifacts]:
    """A builder of fake artifacts, for cli.main()."""
    return lambda xen, variant: fake_artifacts(tmp_path, variant)


@pytest.fixture
def own_build_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build folder for this test alone."""
    folder = tmp_path / "build"
    monkeypatch.setenv("NEMESIS_BUILD", str(folder))
    monkeypatch.delenv("DRY", raising=False)
    return folder


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /dev/kvm that opens."""
    path = tmp_path / "kvm"
    path.touch()
    monkeypatch.setattr(kvm, "DEVICE", path)
    return path


@pytest.fixture
def lab() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs harness/lab as a user does, with the builds of this tree.

    One machine at a time where tests run side by side.
    """

    def call(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        if "PYTEST_XDIST_WORKER" in os.environ and words[0] == "run":
            words += ("--jobs", "1")
        return subprocess.run(
            [str(HARNESS / "lab"), *words],
            env={**os.environ, **(env or {})},
            text=True,
            capture_output=True,
            check=False,
        )

    return call
