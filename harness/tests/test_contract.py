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


def _meets(lab: Call, out: Path, path: Path, pcpus: list[int]) -> None:
    numbers = ",".join(str(number) for number in pcpus)
    # Cold: what comes out then depends on the inputs alone, and is the same on every machine.
    done = lab("run", str(path), "--pcpus", numbers, "--cold", "--out", str(out), "--no-reference")
    assert done.returncode == 0, done.stdout + done.stderr


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
