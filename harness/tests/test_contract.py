# SPDX-License-Identifier: GPL-2.0-only
"""The contract, clause by clause: scenarios named by a clause, on every cell of their matrix.

A new file in scenarios/ is picked up by its name.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from schedlab import cli, scenario
from schedlab.scenario import Dims

pytestmark = pytest.mark.acceptance
Call = Callable[..., subprocess.CompletedProcess[str]]
PATTERNS = ("e[1-6]_*.toml", "lifecycle_*.toml", "errors_*.toml")
# Of the cells of a long scenario, the widest and the narrowest machine are enough for `make test`.
LONG_NS = 8_000_000_000


def _cases() -> Iterator[Any]:
    for path in sorted(p for pattern in PATTERNS for p in cli.SCENARIOS.glob(pattern)):
        what = scenario.load(path)
        ends = {min(what.pcpus), max(what.pcpus)}
        for dims in what.matrix():
            slow = what.length_ns > LONG_NS and dims.pcpus not in ends
            marks = [pytest.mark.slow] if slow else []
            yield pytest.param(path, dims, id=f"{path.stem}-{dims.name()}", marks=marks)


@pytest.mark.parametrize(("path", "dims"), _cases())
def test_contract(lab: Call, tmp_path: Path, path: Path, dims: Dims) -> None:
    """The hypervisor meets what the scenario expects."""
    done = lab(
        *("run", str(path), "--scheduler", dims.scheduler, "--pcpus", str(dims.pcpus)),
        *("--out", str(tmp_path), "--no-reference"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
