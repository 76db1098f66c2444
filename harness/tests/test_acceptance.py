# SPDX-License-Identifier: GPL-2.0-only
"""The nested hypervisor itself, run.  Builds what is missing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from schedlab import cli, records, run, scenario
from schedlab.build import Artifacts, artifacts
from schedlab.core.store import Store
from schedlab.oracle import Verdict
from schedlab.scenario import Dims

pytestmark = pytest.mark.acceptance
Call = Callable[..., subprocess.CompletedProcess[str]]
HERE = Path(__file__).parent
HOGS = 4
# What is run on every base.
bases = pytest.mark.parametrize("xen", ["4.17", pytest.param("4.20", marks=pytest.mark.base420)])


def result_of(folder: Path) -> dict[str, Any]:
    """The result of the only run in a folder."""
    (run,) = folder.iterdir()
    result = json.loads((run / "result.json").read_text())
    assert isinstance(result, dict)
    return result


@bases
def test_beside_stock(lab: Call, tmp_path: Path, xen: str) -> None:
    """Solo phases stand beside the unpatched hypervisor's, and are what they are there."""
    done = lab(
        *("run", "ten_percent", "--scheduler", "credit2", "--pcpus", "1"),
        *("--xen", xen, "--out", str(tmp_path)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (case,) = result_of(tmp_path)["cases"]
    stock = {row["phase"]: row["share"] for row in case["reference"]}
    ours = {row["phase"]: row["share"] for row in case["rows"]}
    # A quantum of 1 ms in 2 s, at either end.
    assert ours["alone"] == pytest.approx(stock["alone"], abs=0.1)


@bases
def test_groups_on_stock(lab: Call, tmp_path: Path, xen: str) -> None:
    """The unpatched hypervisor has no groups: could not run, in one clear sentence."""
    done = lab(
        *("run", str(HERE / "determinism.toml"), "--pcpus", "1", "--variant", "stock"),
        *("--xen", xen, "--out", str(tmp_path)),
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "has no scheduling domains: join answered" in done.stdout
    assert "use --variant patched" in done.stdout


@bases
def test_calibration(lab: Call, xen: str) -> None:
    """Xen and QEMU as locked are calibrated."""
    done = lab("calibrate", "--xen", xen)
    assert done.returncode == 0, done.stdout + done.stderr


def test_calibration_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A forced wrong share fails the calibration, and then nothing is measured."""
    wrong = tmp_path / "calibration.toml"
    wrong.write_text(cli.CALIBRATION.read_text().replace("share = 25", "share = 21"))
    monkeypatch.setattr(cli, "CALIBRATION", wrong)
    assert cli.main(["run", "ten_percent", "--pcpus", "1", "--out", str(tmp_path / "out")]) == 2
    assert "refusing to measure" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@contextmanager
def busy_host() -> Iterator[None]:
    """Processes that want all of the host."""
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(HOGS)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def moved(built: Artifacts, folder: Path) -> Artifacts:
    """The same build, what boots of it copied."""
    folder.mkdir(parents=True)

    def copy(path: Path) -> Path:
        return Path(shutil.copy(path, folder))

    boots = built.xen, built.kernel, built.initramfs
    xen, kernel, initramfs = map(copy, boots)
    return replace(built, xen=xen, kernel=kernel, initramfs=initramfs)


@pytest.mark.parametrize("cold", [False, True], ids=["checkpoint", "cold"])
@pytest.mark.parametrize("pcpus", [1, 4])
def test_determinism(tmp_path: Path, pcpus: int, cold: bool) -> None:
    """The same scenario twice, the second time of files in another folder, with a longer path, on a
    busy host, which makes the checkpoint then, too: the same bytes.
    """
    what = scenario.load(HERE / "determinism.toml")
    dims = Dims("credit2", pcpus, "cores", 5, 1)
    seen: list[bytes] = []
    built = artifacts("4.17", "patched")
    for turn in ("idle", "busy"):
        folder = tmp_path / turn
        store = Store(folder / "store")
        used = moved(built, folder / ("elsewhere/" * 5)) if turn == "busy" else built
        lab = run.Lab(store, lambda variant, used=used: used, folder / "logs", cold)
        with busy_host() if turn == "busy" else nullcontext():
            case = run.measure(lab, what, dims, "patched", folder / "case")
        assert case.judgement.verdict == Verdict.PASS, case.judgement.reason
        assert not case.cached
        seen.append((folder / "case" / "records.jsonl").read_bytes())
    difference = records.first_difference(*seen)
    assert difference is None, difference
    assert len(seen[0].splitlines()) > 10


@bases
@pytest.mark.parametrize("pcpus", [1, 4])
@pytest.mark.parametrize("scheduler", ["credit2", "credit"])
def test_timeline(lab: Call, tmp_path: Path, scheduler: str, pcpus: int, xen: str) -> None:
    """The trace's slices sum up to what was accounted, to the ns, for each domain and group."""
    done = lab(
        *("run", str(HERE / "traced.toml"), "--scheduler", scheduler, "--pcpus", str(pcpus)),
        *("--xen", xen, "--out", str(tmp_path), "--no-reference"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (case,) = result_of(tmp_path)["cases"]
    checks = [c for c in case["checks"] if c["clause"] == "trace"]
    # dom0, master and second; and the group.
    assert len(checks) == 4 and {c["verdict"] for c in checks} == {"pass"}
    exact = [c for c in checks if c["domains"] != ["dom0"]]
    assert all(abs(c["measured"] - c["expected"]) <= c["tolerance"] for c in exact)
    assert min(c["tolerance"] for c in exact) <= 2e-6
    (folder,) = tmp_path.iterdir()
    events = json.loads((folder / case["name"] / "timeline.json").read_text())["traceEvents"]
    assert {e["name"] for e in events if e.get("pid") == 3} >= {"join second", "throttled"}


def test_benchmarks(lab: Call, tmp_path: Path) -> None:
    """Google Benchmark runs in dom0, and the same figures come out on both hypervisors' domctls."""
    done = lab(
        *("bench", "--scheduler", "credit2", "--no-schedule", "--out", str(tmp_path)),
        *("--filter", "(getinfo|scheddom_get|ping_pong)"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = tmp_path.iterdir()
    found = json.loads((folder / "bench.json").read_text())["benchmarks"]
    by_key = {(b["variant"], b["name"], b["members"]): b["instructions"] for b in found}
    assert 1_000 < by_key["stock", "getinfo/alone", 0] < 20_000
    assert 1_000 < by_key["patched", "scheddom_get/members", 64] < 100_000
    assert 5_000 < by_key["patched", "ping_pong", 0] < 200_000
    own = json.loads((folder / "credit2-1p-patched" / "bench.json").read_text())
    assert own["benchmarks"] and own["context"]["num_cpus"] == 1
