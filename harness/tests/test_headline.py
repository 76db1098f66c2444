# SPDX-License-Identifier: GPL-2.0-only
"""Headline comparisons: what is measured where, the page, Linux cgroups, the index of runs."""

from __future__ import annotations

import json
import os
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from schedlab import cgroups, cli, headline, index, scenario
from schedlab.core.errors import LabError
from schedlab.page import document, headline_page
from schedlab.page.document import Figure, Table


def cap_row(scheduler: str, variant: str, domains: int, error: float) -> dict[str, Any]:
    """A case of the study of caps."""
    return {
        **{"study": "cap", "scheduler": scheduler, "variant": variant, "pcpus": 1, "cap": 10.0},
        **{"domains": domains, "whole_error": error / 2, "window_errors": [error, -error / 4]},
        **{"split": [100 / domains] * domains, "verdict": "pass", "reason": ""},
        **{"wall_s": 2.0, "virtual_s": 1.0},
    }


def whole() -> dict[str, Any]:
    """headline.json, small."""
    rows = [
        cap_row("credit", "stock", 1, 20.0),
        cap_row("credit", "patched", 1, 19.0),
        cap_row("credit", "patched", 2, 0.05),
        {**cap_row("credit", "patched", 4, 0.3), "study": "pcpus"},
        {**cap_row("credit", "patched", 4, 0.2), "study": "pcpus", "pcpus": 8},
        {**cap_row("credit", "patched", 64, 0.7), "study": "members"},
    ]
    for variant in ("stock", "patched"):
        latency = cap_row("credit", variant, 2, 1.0)
        waits = {"apart": [10.0, 20.0], "even": [30.0], "weighted": []}
        rows.append({**latency, "study": "latency", "waits": waits})
    linux = {"processes": 2, "cap": 10, "window_errors": [3.0, 1.0], "whole_error": 2.0}
    return {
        **{"rows": rows, "linux": {"version": 1, "rows": [{**linux, "split": [40.0, 60.0]}]}},
        **{"schedule": [], "context": {"command": "lab headline"}},
        "lab": {
            "checkpoints": [{"scheduler": "credit", "pcpus": 1, "checkpoint_bytes": 2**20}],
            "largest_qemu_bytes": 2**27,
        },
    }


def test_studies() -> None:
    """Every study loads; stock is where nobody is in a group, and where the stub is apart."""
    for study in headline.STUDIES:
        what = scenario.load(headline.FOLDER / f"{study}.toml")
        assert what.name == study
        for dims in what.matrix():
            on = headline.variants(study, dims)
            grouped = what.of(dims).uses_groups
            assert ("stock" in on) == (study == "latency" or not grouped)
    assert scenario.load(headline.FOLDER / "latency.toml").trace


def test_page() -> None:
    """Figures of the facts are from the rows; Linux stands beside; stock's phases are one."""
    page = headline_page.page(whole())
    text = document.html(page)
    assert "<b>0.05 %</b>" in text and "<b>20.00 %</b>" in text and "<b>3.0 %</b>" in text
    assert "stock, apart" in text and "stock, even" not in text and "patched, even" in text
    figures = {b.name for b in page.blocks if isinstance(b, Figure)}
    assert figures >= {"headline", "cap-credit", "split", "waits-credit", "growth-pcpus-error"}
    (delays,) = [b for b in page.blocks if isinstance(b, Table) and "wake-ups" in b.columns]
    assert [row[1] for row in delays.rows] == ["stock, apart", "patched, apart", "patched, even"]
    skipped = whole()
    skipped["linux"] = {"skipped": "no cpu controller", "rows": []}
    assert "no cpu controller" in document.html(headline_page.page(skipped))


def test_picture_is_deterministic() -> None:
    """The same data, the same bytes; a dot a window."""
    drawn = headline_page.picture(whole())
    assert drawn == headline_page.picture(json.loads(json.dumps(whole())))
    ElementTree.fromstring(drawn)
    assert drawn.count("<circle") == 2 * 4


def test_picture_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the data beside it; without them, an error that names the folder."""
    with pytest.raises(LabError, match="no headline.json"):
        index.picture(tmp_path)
    (tmp_path / "headline.json").write_text(json.dumps(whole()))
    assert cli.main(["report", "--picture", str(tmp_path)]) == 0
    ElementTree.fromstring((tmp_path / index.PICTURE).read_text())


def test_index(tmp_path: Path) -> None:
    """The newest first; what is no run is left out; a page is made again from its JSON."""
    for name in ("20260101T000000.000Z-a-1", "20260102T000000.000Z-b-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "headline.json").write_text(json.dumps(whole()))
    (tmp_path / "no_run").mkdir()
    index.render(tmp_path / "20260102T000000.000Z-b-2")
    assert cli.main(["report", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "index.html").read_text()
    assert text.index("0102T") < text.index("0101T") and "no_run" not in text
    assert 'href="20260102T000000.000Z-b-2/report.html"' in text
    assert 'href="20260101T' not in text
    assert cli.main(["report", str(tmp_path / "no_run")]) == 2


def tree(root: Path, version: int) -> Path:
    """A made-up /sys/fs/cgroup."""
    if version == 1:
        (root / "cpu").mkdir()
        (root / "cpu" / "cpu.shares").write_text("1024")
        return root / "cpu"
    (root / "cgroup.controllers").write_text("cpuset cpu io")
    (root / "cgroup.subtree_control").write_text("cpu")
    return root


@pytest.mark.parametrize("version", [1, 2])
def test_cgroups_found(tmp_path: Path, version: int) -> None:
    """v1 or v2, and how each is told its quota."""
    place = tree(tmp_path, version)
    found = cgroups.find(tmp_path)
    assert found == cgroups.Quota(place, version)
    group = place / "g"
    group.mkdir()
    assert isinstance(found, cgroups.Quota)
    found.limit(group, 10)
    if version == 1:
        assert (group / "cpu.cfs_quota_us").read_text() == "10000"
    else:
        assert (group / "cpu.max").read_text() == "10000 100000"


def test_cgroups_skipped_with_a_reason(tmp_path: Path) -> None:
    """None there; v2 whose controller is off."""
    assert "no cpu controller" in str(cgroups.find(tmp_path))
    tree(tmp_path, 2)
    (tmp_path / "cgroup.subtree_control").write_text("io")
    assert "not enabled" in str(cgroups.find(tmp_path))


def test_a_busy_host_is_no_quota(tmp_path: Path) -> None:
    """A group that its quota seldom stops was short of CPU time: no figure of the quota."""
    group = tmp_path / "g"
    group.mkdir()
    (group / "cpu.stat").write_text("nr_periods 100\nnr_throttled 95\nthrottled_time 5\n")
    assert cgroups._periods(group) == (100, 95)
    for part, limited in ((1.0, True), (0.95, True), (0.9, False), (0.0, False)):
        assert cgroups.Measured(1, 10, (10.0,), (1,), part).limited == limited
    busy = whole()
    busy["linux"] = {"version": 1, "rows": [], "left_out": ["1 at 50 % (12%)"]}
    assert "1 at 50 % (12%)" in document.html(headline_page.page(busy))


def test_cpu_clock_of_a_process() -> None:
    """Another process's CPU time, in ns."""
    before, used = cgroups.cpu_ns(os.getpid()), time.process_time_ns()
    while time.process_time_ns() < used + 20_000_000:
        pass
    assert 20_000_000 <= cgroups.cpu_ns(os.getpid()) - before < 2_000_000_000
