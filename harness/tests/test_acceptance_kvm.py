# SPDX-License-Identifier: GPL-2.0-only
"""Real time, under Linux's own KVM, on the emulated host: what is tested is that it is run and
judged, on the real machine of each kind; of its times, only that there are some.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.test_run import SMALL

pytestmark = pytest.mark.acceptance
Call = Callable[..., subprocess.CompletedProcess[str]]


def only(folder: Path) -> Path:
    """The one run there."""
    (run,) = (path for path in folder.iterdir() if path.is_dir())
    return run


def test_bench(lab: Call, tmp_path: Path) -> None:
    """The same programs as in virtual time, on both hypervisors: probed, run, shown as real."""
    words = ("--scheduler", "credit2", "--filter", "scheddom_get|ping_pong|getinfo", "--runs", "1")
    done = lab("kvm-host", "bench", *words, "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    run = only(tmp_path)
    found = json.loads((run / "bench.json").read_text())
    context = found["context"]
    assert (context["accelerator"], context["time"]) == ("kvm", "real")
    assert "on a processor emulated by QEMU" in context["kvm_probe"]
    names = {(one["variant"], one["name"], one["members"]) for one in found["benchmarks"]}
    sizes = [1, 2, 4, 8, 16, 32, 64]
    assert names == {
        *(
            ("patched", name, n)
            for name in ("getinfo/members", "scheddom_get/members")
            for n in sizes
        ),
        *((variant, "ping_pong", 0) for variant in ("patched", "stock")),
        *((variant, "getinfo/alone", 0) for variant in ("patched", "stock")),
    }
    assert all(min(one["times_ns"]) > 0 for one in found["benchmarks"])
    assert {len(one["times_ns"]) for one in found["benchmarks"]} == {1}
    assert {one["instructions"] for one in found["benchmarks"]} == {None}
    for variant in ("patched", "stock"):
        place = run / f"credit2-1p-{variant}" / "01"
        command = (place / "command.sh").read_text()
        assert "-accel kvm" in command and "-icount" not in command
        assert "Xen version 4.17" in (place / "serial.log").read_text()
    assert "under KVM: real time" in (run / "report.html").read_text()


@pytest.mark.slow
def test_run(lab: Call, tmp_path: Path) -> None:
    """Ten runs of a scenario with groups, each to its end; a verdict by their means."""
    (tmp_path / "small.toml").write_text(SMALL)
    words = ("--pcpus", "1", "--runs", "10", "--no-reference", "--out", str(tmp_path / "results"))
    done = lab("kvm-host", "run", str(tmp_path / "small.toml"), *words)
    run = only(tmp_path / "results")
    result = json.loads((run / "result.json").read_text())
    # Of a noisy host the verdict may be any but a crash: that is no fault of what is tested here.
    assert done.returncode in (0, 1, 2) and result["verdict"] != "crash", done.stdout + done.stderr
    assert result["context"]["time"] == "real"
    (case,) = result["cases"]
    found = {check["clause"]: check for check in case["checks"]}
    assert "10 runs, beyond the tolerance by" in found["E1.cap"]["reason"]
    assert found["op"]["verdict"] == "pass" and found["groups"]["verdict"] == "pass"
    ends = [path.read_text().splitlines()[-1] for path in run.glob("*-patched/*/records.jsonl")]
    assert [json.loads(end) for end in ends] == [{"r": "end", "errors": 0}] * 10
