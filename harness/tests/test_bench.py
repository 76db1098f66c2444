# SPDX-License-Identifier: GPL-2.0-only
"""Benchmarks: Google Benchmark's JSON to instructions, failures named, the image, the pages."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from schedlab import bench, records, scenario
from schedlab.build.image import cpio, libraries, members, with_program
from schedlab.build.layout import Layout
from schedlab.core.errors import LabError
from schedlab.page import bench_page, document
from schedlab.page.document import Figure, Table
from schedlab.scenario import Dims

DIMS = Dims("credit2", 1, "cores", 5, 1)


def benchmark(name: str, time_us: float) -> dict[str, Any]:
    """One, as Google Benchmark writes it."""
    whole = f"{name}/iterations:32/manual_time"
    return {"name": whole, "real_time": time_us * 1000, "cpu_time": 1.0, "time_unit": "ns"}


GOOGLE = {
    "benchmarks": [
        benchmark("ping_pong", 64),
        benchmark("scheddom_add/members/1", 32),
        benchmark("scheddom_add/members/64", 320),
    ]
}


def test_costs() -> None:
    """Names without Google's additions; an instruction takes 2^shift ns."""
    found = bench.costs([GOOGLE], DIMS, "patched")
    assert [(c.name, c.members, c.instructions) for c in found] == [
        ("ping_pong", 0, 2000),
        ("scheddom_add/members", 1, 1000),
        ("scheddom_add/members", 64, 10_000),
    ]


def test_failures_are_errors() -> None:
    """A benchmark that failed, and none at all."""
    failed = {**benchmark("x", 1), "error_occurred": True, "error_message": "the call failed"}
    with pytest.raises(LabError, match="x/iterations:32.*the call failed"):
        bench.costs([{"benchmarks": [failed]}], DIMS, "patched")
    with pytest.raises(LabError, match="said nothing"):
        bench.costs([{"benchmarks": []}], DIMS, "patched")


def test_program_goes_to_the_controller() -> None:
    """Its words are in the scenario that the controller reads; without one nothing is."""
    what = scenario.parse(bench.SCENARIO, Path("bench.toml"))
    assert "program" not in json.loads(what.as_json(DIMS))
    told = json.loads(replace(what, program=("/bench", "-x"), echo="echo").as_json(DIMS))
    assert told["program"] == {"words": ["/bench", "-x"], "echo": "echo"}
    line = json.dumps({"r": "program", "status": 3, "output": "{}"})
    assert records.parse([line]).program == records.Program(3, "{}")


def test_runnable() -> None:
    """So many busy domains, the first of them in groups of two."""
    what = bench.runnable(16, 8)
    assert len(what.domains) == 16
    assert len(set(what.phases[0].state.master_of.values())) == 8
    assert not bench.runnable(4, 0).uses_groups


def test_image_with_a_program(tmp_path: Path) -> None:
    """The program and every library that it needs, with the folders they are in."""
    controller = tmp_path / "controller"
    controller.write_bytes(b"init")
    program = Path(sys.executable).resolve()
    layout = Layout(tmp_path, tmp_path / "build", tmp_path / "lock", None, 1)
    made = (with_program(layout, controller, program) / "initramfs").read_bytes()
    needed = libraries(program)
    assert any("ld-linux" in path.name for path in needed)
    for path in needed:
        assert str(path).lstrip("/").encode() + b"\0" in made
    plain = cpio(members(b"init"))
    assert len(made) > len(plain) + sum(path.stat().st_size for path in needed)


def repeated(pong_us: float, runs: int = 10) -> list[dict[str, Any]]:
    """So many runs, each a microsecond slower than the one before."""
    return [
        {
            "benchmarks": [
                benchmark("ping_pong", pong_us + k),
                benchmark("scheddom_add/members/1", 32),
            ]
        }
        for k in range(runs)
    ]


def test_real_time() -> None:
    """Under KVM a time is a time: the median of runs, no instructions, a p beside stock."""
    costs = [
        cost
        for variant, pong_us in (("patched", 64), ("stock", 30))
        for cost in bench.costs(repeated(pong_us), DIMS, variant, real=True)
    ]
    assert [(c.variant, c.time_ns, c.instructions) for c in costs if c.name == "ping_pong"] == [
        ("patched", 68_500, None),
        ("stock", 34_500, None),
    ]
    assert costs[0].times_ns == tuple(1000.0 * (64 + k) for k in range(10))
    found = [asdict(c) for c in costs]
    context = {"accelerator": "kvm", "command": "lab bench", "hashes": {}}
    page = bench_page.page({"benchmarks": found, "schedule": [], "context": context})
    text = document.html(page)
    assert "us a round trip" in text and "34 → 68" in text
    assert "instructions" not in text and "million a virtual second" not in text
    against, whole = (b for b in page.blocks if isinstance(b, Table) and not b.folded)
    (row,) = against.rows
    assert row[:4] == ("credit2", "ping_pong", 34.5, 68.5)
    assert isinstance(row[-1], float) and row[-1] < 0.001
    assert whole.rows[0] == ("credit2", "patched", "ping_pong", 0, 68.5, 64.0, 73.0, 10)
    assert bench.table(costs).splitlines()[1].split()[-2:] == ["68.5", "-"]


def test_too_few_runs_have_no_p() -> None:
    """Nine of each, however far apart."""
    found = [
        asdict(cost)
        for variant, pong_us in (("patched", 64), ("stock", 30))
        for cost in bench.costs(repeated(pong_us, 9), DIMS, variant, real=True)
    ]
    context = {"accelerator": "kvm", "hashes": {}}
    page = bench_page.page({"benchmarks": found, "schedule": [], "context": context})
    against = next(b for b in page.blocks if isinstance(b, Table))
    assert against.columns[-1] == "difference, %"


def test_page() -> None:
    """A chart of what is by members; stock beside patched; every figure in the table."""
    found = [asdict(c) for v in bench.VARIANTS for c in bench.costs([GOOGLE], DIMS, v)]
    counted = [
        asdict(bench.Scheduling("credit2", v, 4, 0, 100, 300, 400.0)) for v in bench.VARIANTS
    ]
    whole = {
        **{"benchmarks": found, "schedule": counted},
        "context": {
            "shift": 5,
            "accelerator": "tcg",
            "command": "lab bench",
            "hashes": {"stock": {"xen": "ab"}},
        },
    }
    page = bench_page.page(whole)
    names = {b.name for b in page.blocks if isinstance(b, Figure)}
    assert names == {"bench-credit2-operations", "schedule-credit2"}
    against = next(b for b in page.blocks if isinstance(b, Table) and "difference, %" in b.columns)
    assert against.rows == (("credit2", "ping_pong", 2000, 2000, 0),)
    text = document.html(page)
    assert "1,000 → 10,000" in text and "2,000 → 2,000" in text
    assert "31.25 million a virtual second" in text
