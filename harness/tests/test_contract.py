# SPDX-License-Identifier: GPL-2.0-only
"""The contract, clause by clause: scenarios named by a clause.

A new file in scenarios/ is picked up by its name.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from schedlab import cli, scenario

pytestmark = pytest.mark.acceptance
Call = Callable[..., subprocess.CompletedProcess[str]]
PATTERNS = ("e[1-6]_*.toml", "lifecycle_*.toml", "errors_*.toml")
PATHS = sorted(path for pattern in PATTERNS for path in cli.SCENARIOS.glob(pattern))
# Where a scenario has three sizes of machine or more, `make test` takes the ends.
BETWEEN = [path for path in PATHS if len(scenario.load(path).pcpus) > 2]

# A clause each, and what needed porting most.
OTHER_BASE = (
    "e1_outsiders",
    "e2_weight",
    "e3_cap",
    "e4_weighted",
    "lifecycle_groups",
    "lifecycle_pool",
)
# What changes groups most: the invariants are asserted there.
ASSERTED = (
    "e3_join_leave",
    "errors_membership",
    "lifecycle_groups",
    "lifecycle_hotplug",
    "lifecycle_kill",
)


def _meets(lab: Call, out: Path, path: Path, pcpus: list[int], *words: str) -> None:
    numbers = ",".join(str(number) for number in pcpus)
    done = lab(*("run", str(path), "--pcpus", numbers, "--out", str(out), "--no-reference"), *words)
    assert done.returncode == 0, done.stdout + done.stderr


def _largest(name: str) -> tuple[Path, list[int]]:
    path = scenario.find(name, cli.SCENARIOS)
    return path, [max(scenario.load(path).pcpus)]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_contract(lab: Call, tmp_path: Path, path: Path) -> None:
    """The hypervisor meets what the scenario expects."""
    pcpus = scenario.load(path).pcpus
    _meets(lab, tmp_path, path, sorted({min(pcpus), max(pcpus)}))


@pytest.mark.slow
@pytest.mark.parametrize("path", BETWEEN, ids=lambda path: path.stem)
def test_contract_between(lab: Call, tmp_path: Path, path: Path) -> None:
    """So it does on the sizes of machine between."""
    _meets(lab, tmp_path, path, sorted(scenario.load(path).pcpus)[1:-1])


@pytest.mark.parametrize("name", ASSERTED)
def test_contract_asserted(lab: Call, tmp_path: Path, name: str) -> None:
    """So does a build with assertions, and none of them fails."""
    _meets(lab, tmp_path, *_largest(name), "--variant", "patched-debug")


@pytest.mark.base420
@pytest.mark.parametrize("name", OTHER_BASE)
def test_contract_420(lab: Call, tmp_path: Path, name: str) -> None:
    """So does the series on the other base."""
    _meets(lab, tmp_path, *_largest(name), "--xen", "4.20")
