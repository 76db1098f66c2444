# SPDX-License-Identifier: GPL-2.0-only
"""``lab headline``: the comparisons that answer "what is it worth", in one page.

(a) error of a cap by group size: stock and patched single domain, patched group; (b) the same on
this host's Linux; (c) what schedule() costs, unused and used; (d) the split between members;
(e) delay of a member's wake-ups while its master spins; (f) growth with pCPUs and domains, and what
the lab itself costs.  Studies are scenarios in harness/headline, which are measured and not judged.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from schedlab import bench, cgroups, checkpoint, report, run, scenario, sides, timeline
from schedlab.core.command import dry_run
from schedlab.oracle import Verdict
from schedlab.page import document, headline_page
from schedlab.run import Case, Lab
from schedlab.scenario import Dims, Scenario

FOLDER = Path(__file__).resolve().parents[1] / "headline"
STUDIES = ("cap", "latency", "pcpus", "members")
PATCHED, STOCK = "patched", "stock"
# schedule() with (busy vCPUs, groups).
SCHEDULE = ((4, 0), (4, 2))
# (processes, cap) on Linux.
LINUX = ((1, 10), (2, 10), (8, 10), (1, 50), (2, 50), (8, 50))
FORMAT = 1


def variants(study: str, dims: Dims) -> tuple[str, ...]:
    """On which hypervisors a cell is measured: stock has no groups."""
    alone = dict(dims.vary).get("members") == 0
    return (STOCK, PATCHED) if study == "latency" or alone else (PATCHED,)


def row(study: str, case: Case) -> dict[str, Any]:
    """What a case says, from its judgement's rows and its trace."""
    judged = case.judgement
    busy = judged.rows[0] if judged.rows else None
    found: dict[str, Any] = {
        "study": study,
        "variant": case.variant,
        **asdict(case.dims),
        **dict(case.dims.vary),
        "verdict": judged.verdict.word,
        "reason": judged.reason,
        "cached": case.cached,
        "wall_s": case.outcome.wall_s,
        "virtual_s": case.scenario.length_ns / 1e9,
    }
    if busy is not None and busy.cap_percent:
        cap = float(busy.cap_percent)
        found |= {
            "cap": cap,
            "domains": len(busy.domains),
            "whole_error": busy.error,
            "window_errors": [100 * (share - cap) / cap for share in busy.windows],
            "split": list(busy.split),
        }
    if case.timeline is not None:
        found["waits"] = _waits(case, case.timeline)
    return found


def _waits(case: Case, trace: timeline.Timeline) -> dict[str, list[float]]:
    """By phase: us from each of the stub's wake-ups to its running."""
    stub = next(c.domid for c in case.records.created if c.name == "stub")
    samples = case.records.samples
    edges = {p.name: (samples[p.labels[0]], samples[p.labels[-1]]) for p in case.scenario.phases}
    return {
        name: timeline.delays(trace.slices, stub, one.t_ns, two.t_ns)
        for name, (one, two) in edges.items()
    }


def _cells(what: Scenario) -> list[Dims]:
    return list(what.matrix())


def _studies(options: argparse.Namespace) -> dict[str, Scenario]:
    chosen = options.study or STUDIES
    return {
        name: scenario.override(
            scenario.load(scenario.find(name, FOLDER)),
            schedulers=options.scheduler,
            pcpus=options.pcpus,
        )
        for name in chosen
    }


def _measure(lab: Lab, what: Mapping[str, Scenario], folder: Path, jobs: int) -> list[Case]:
    todo = [
        sides.Job(variant, one, dims, name)
        for name, one in what.items()
        for dims in _cells(one)
        for variant in variants(name, dims)
    ]

    def measure(job: sides.Job) -> Case:
        place = folder / job.study / f"{job.dims.name()}-{job.side}"
        groups = job.side != STOCK
        return run.measure(lab, job.what, job.dims, job.side, place, groups=groups)

    return sides.in_parallel(measure, todo, [lab], jobs, sides.say)


def linux(seconds: int) -> dict[str, Any]:
    """The same on this host, or why not."""
    quota = cgroups.find()
    if isinstance(quota, str):
        return {"skipped": quota, "rows": []}
    rows: list[dict[str, Any]] = []
    left_out = []
    for processes, cap in LINUX:
        print(f"  Linux cgroup v{quota.version}: {processes} at {cap} % …", file=sys.stderr)
        try:
            found = cgroups.measure(quota, processes, cap, windows=seconds)
        except OSError as error:
            return {"skipped": f"cgroup v{quota.version} at {quota.root}: {error}", "rows": rows}
        if not found.limited:
            left_out.append(f"{processes} at {cap} % ({found.throttled:.0%})")
            continue
        errors = [100 * (share - cap) / cap for share in found.windows]
        whole = 100 * (found.share - cap) / cap
        total = sum(found.used_ns)
        rows.append(
            {
                **{"processes": processes, "cap": cap, "window_errors": errors},
                **{"whole_error": whole, "split": [100 * u / total for u in found.used_ns]},
            }
        )
    return {"version": quota.version, "rows": rows, "left_out": left_out}


def own_cost(lab: Lab, cases: Iterable[Case]) -> list[dict[str, Any]]:
    """By pCPUs: size of the checkpoint."""
    found = {}
    for case in cases:
        if case.variant != PATCHED or case.dims.topology != "cores":
            continue
        machine = run.machine_of(case.dims)
        inputs = checkpoint.inputs(machine, lab.build(PATCHED))
        entry = lab.store.find(checkpoint.STEP, inputs)
        if entry is not None:
            size = (entry / checkpoint.STATE_FILE).stat().st_size
            found[case.dims.scheduler, case.dims.pcpus] = size
    return [
        {"scheduler": scheduler, "pcpus": pcpus, "checkpoint_bytes": size}
        for (scheduler, pcpus), size in sorted(found.items())
    ]


def main(options: argparse.Namespace, lab: Lab, calibration: Path) -> int:
    """Exit status 0: everything ran; 2: something did not, and the page says what."""
    started = time.time()
    what = _studies(options)
    for variant in (PATCHED, STOCK):
        run.calibrate(lab, variant, calibration)
    if dry_run():
        _measure(lab, what, options.out / "RUN", 1)
        return 0
    with report.new_run(options.out, "headline") as folder:
        cases = _measure(lab, what, folder, options.jobs)
        rows = [
            row(name, case)
            for name, one in what.items()
            for case in cases
            if case.scenario.name == one.name
        ]
        counted = []
        if not options.no_schedule:
            schedulers = dict.fromkeys(s for one in what.values() for s in bench.schedulers_of(one))
            counted = bench.scheduling(lab, options.xen, schedulers, folder, 5, SCHEDULE)
        whole = {
            "format": FORMAT,
            "rows": rows,
            "linux": {"skipped": "--no-linux", "rows": []} if options.no_linux else linux(10),
            "schedule": [asdict(one) for one in counted],
            "lab": {
                "checkpoints": own_cost(lab, cases),
                # Linux gives it in KiB.
                "largest_qemu_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10,
            },
            "context": {
                "command": shlex.join(["lab", *sys.argv[1:]]),
                "started_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
                "wall_s": time.time() - started,
                "xen_base": options.xen,
                "qemu": lab.build(PATCHED).qemu.version,
                **{f"{v}.xen": lab.build(v).hashes["xen"] for v in (PATCHED, STOCK)},
            },
        }
        write(whole, folder)
        final = report.final_name(folder)
    bad = [one for one in rows if Verdict[one["verdict"].upper()] >= Verdict.ERROR]
    for one in bad:
        print(f"{one['study']} {one['scheduler']} {one['pcpus']}p: {one['reason']}")
    print(f"headline: {len(rows)} cases: {final}")
    return 2 if bad else 0


def write(whole: Mapping[str, Any], folder: Path) -> None:
    """headline.json and the page."""
    report.write_json(folder / "headline.json", whole)
    document.write(headline_page.page(json.loads(json.dumps(whole))), folder)
