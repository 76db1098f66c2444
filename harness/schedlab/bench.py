# SPDX-License-Identifier: GPL-2.0-only
"""``lab bench``: what operations cost, on a host that is otherwise idle.

Two measurements, each on one pCPU and on every scheduler:

* Google Benchmark programs in dom0 (guests/bench), their JSON kept untouched: domctls by the size
  of the group, on the patched and on the stock hypervisor; round trips by event channel;
* ``schedule()`` by the number of runnable vCPUs and of groups, in instructions counted by QEMU
  (overhead.py), nothing being added to the hypervisor.

Times are virtual: an instruction takes 2^shift ns, so a time over that is a number of instructions,
of dom0's kernel and libxenctrl, too.  Under KVM the same programs run in real time, several times,
each on a machine of its own, patched and stock in turn (ABBA): medians, and beside stock the p of a
permutation test; nothing counts instructions there.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from schedlab import overhead, report, run, scenario, stats
from schedlab.core.command import dry_run
from schedlab.core.errors import LabError
from schedlab.page import bench_page, document
from schedlab.qemu import KVM, Artifacts
from schedlab.run import Lab
from schedlab.scenario import Dims, Scenario

SCENARIO = """\
name = "bench"
description = "dom0 measures; one domain answers it"
[matrix]
scheduler = ["credit2", "credit"]
pcpus = [1]
[[domain]]
name = "echo"
workload = "pair"
[[phase]]
name = "ready"
duration = "100ms"
window = "100ms"
do = [{ op = "start", domain = "echo" }]
show = ["echo"]
"""
# Burners that want to run all the time; `groups` of two of them each.
_BURNERS = """\
name = "runnable"
[matrix]
scheduler = ["credit2"]
pcpus = [1]
[vary]
burners = [{burners}]
groups = [{groups}]
[[domain]]
name = "burner"
count = "$burners"
[[phase]]
name = "all"
duration = "100ms"
window = "100ms"
do = [{{ op = "start", domain = "burner*" }}{joins}]
show = ["burner1"]
"""
VARIANTS = ("patched", "stock")
# (burners, groups of two of them)
RUNNABLE = ((1, 0), (4, 0), (16, 0), (4, 2), (16, 1), (16, 8))


@dataclass(frozen=True)
class Cost:
    """One benchmark of one program, on one machine."""

    scheduler: str
    variant: str
    name: str  # with /members or /alone
    members: int
    time_ns: float  # of several runs, the median
    instructions: float | None  # None in real time
    times_ns: tuple[float, ...] = ()  # of each run, in real time


def costs(
    runs: Sequence[Mapping[str, Any]], dims: Dims, variant: str, *, real: bool = False
) -> list[Cost]:
    """From Google Benchmark's JSON: of one run in virtual time, of one or more in real time.

    LabError names a benchmark that failed.
    """
    unit = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}
    times: dict[tuple[str, int], list[float]] = {}
    for one in (benchmark for found in runs for benchmark in found["benchmarks"]):
        if one.get("error_occurred"):
            raise LabError(f"benchmark {one['name']}: {one.get('error_message')}", "see its JSON")
        parts = one["name"].split("/")
        name = "/".join(p for p in parts if not p.isdigit() and ":" not in p and "_time" not in p)
        members = next((int(p) for p in parts if p.isdigit()), 0)
        times.setdefault((name, members), []).append(one["real_time"] * unit[one["time_unit"]])
    if not times:
        raise LabError("the benchmarks said nothing", "see its JSON")
    out = []
    for (name, members), all_ns in times.items():
        ns = median(all_ns)
        cost = Cost(dims.scheduler, variant, name, members, ns, ns / 2**dims.shift)
        out.append(replace(cost, instructions=None, times_ns=tuple(all_ns)) if real else cost)
    return out


def measured(case: run.Case) -> str:
    """The program's own output.  LabError where it did not end well."""
    program = case.records.program
    if program is None:
        raise LabError(
            f"the benchmarks did not run ({case.dims.name()}): {case.judgement.reason}",
            "see the serial log",
            run.log_of(case.folder),
        )
    if program.status != 0:
        raise LabError(
            f"the benchmarks ended with status {program.status}",
            "see the serial log",
            run.log_of(case.folder),
        )
    return program.output


def with_bench(built: Artifacts) -> Artifacts:
    """The same, with the benchmarks in dom0's image."""
    # Imported here: the unit tests need no builds.
    from schedlab.build import Artifacts as RealArtifacts
    from schedlab.build import Layout
    from schedlab.build.image import with_program
    from schedlab.core.store import sha256_file

    assert isinstance(built, RealArtifacts)
    if not built.guests:
        return built  # DRY=1, and nothing is built yet
    entry = next(iter(built.guests.values())).parent.parent
    made = with_program(Layout.from_environment(), entry / "controller", entry / "bench")
    path = made / "initramfs"
    digest = sha256_file(path) if path.exists() else ""
    found: Artifacts = replace(built, initramfs=path, hashes={**built.hashes, "initramfs": digest})
    return found


def runnable(burners: int, groups: int) -> Scenario:
    """That many busy vCPUs, the first of them in that many groups of two."""
    joins = "".join(
        f', {{ op = "join", master = "burner{2 * k + 1}", member = "burner{2 * k + 2}" }}'
        for k in range(groups)
    )
    text = _BURNERS.format(burners=burners, groups=groups, joins=joins)
    text = text.replace('"$burners"', str(burners))
    return scenario.parse(text, Path("runnable.toml"))


def schedulers_of(what: Scenario) -> list[str]:
    """Those of its matrix, in order."""
    return list(dict.fromkeys(dims.scheduler for dims in what.matrix()))


@dataclass(frozen=True)
class Scheduling:
    """``schedule()`` with so many runnable vCPUs: instructions."""

    scheduler: str
    variant: str
    burners: int
    groups: int
    invocations: int
    least: int
    median: float


def scheduling(
    lab: Lab,
    xen: str,
    schedulers: Iterable[str],
    folder: Path,
    shift: int,
    cases: Iterable[tuple[int, int]] = RUNNABLE,
) -> list[Scheduling]:
    """On the patched and, where there is no group, on the stock hypervisor."""
    found = []
    for scheduler in schedulers:
        for burners, groups in cases:
            for variant in VARIANTS if not groups else VARIANTS[:1]:
                what = scenario.override(runnable(burners, groups), schedulers=[scheduler])
                dims = replace(next(iter(what.matrix())), shift=shift)
                place = folder / f"runnable-{burners}-{groups}"
                bench = overhead.Bench(lab, xen, what.of(dims), place, groups=groups > 0)
                print(
                    f"  schedule(): {burners} busy, {groups} groups, {scheduler} {variant} …",
                    file=sys.stderr,
                    flush=True,
                )
                cost = bench.cost(variant, replace(dims, vary=()))[0]
                found.append(
                    Scheduling(
                        *(scheduler, variant, burners, groups),
                        *(cost.invocations, cost.least, cost.median),
                    )
                )
    return found


def main(options: argparse.Namespace, lab: Lab, plain: Lab, accelerator: Mapping[str, str]) -> int:
    """Exit status 0: measured.  ``lab`` boots the image with the benchmarks, ``plain`` does not.

    ``accelerator``: what executes, and what was found of it, for the results' context.
    """
    started = time.time()
    real = lab.accel == KVM
    if real and options.runs < 1:
        raise LabError(f"--runs {options.runs} measures nothing", "give 1 or more")
    what = scenario.override(
        scenario.parse(SCENARIO, Path("bench.toml")),
        schedulers=options.scheduler,
        shift=options.shift,
    )
    found: list[Cost] = []
    with report.new_run(options.out, "bench") as folder:
        for dims in what.matrix():
            said: dict[str, list[Mapping[str, Any]]] = {variant: [] for variant in VARIANTS}
            for variant, number in stats.turns(VARIANTS, options.runs if real else 1):
                words = ["/bench", "--benchmark_format=json"]
                words += [f"--benchmark_filter={options.filter}"] if options.filter else []
                words += ["--stock"] if variant == "stock" else []
                one = replace(what, program=tuple(words), echo="echo")
                place = folder / f"{dims.name()}-{variant}"
                if real:
                    place /= f"{number:02}"
                case = run.measure(lab, one, dims, variant, place, groups=False)
                if dry_run():
                    continue
                text = measured(case)
                (place / "bench.json").write_text(text)
                said[variant].append(json.loads(text))
                which = f" ({number}/{options.runs})" if real else ""
                print(f"  {dims.name()} {variant} …{which}", file=sys.stderr, flush=True)
            if not dry_run():
                for variant in VARIANTS:
                    found += costs(said[variant], dims, variant, real=real)
        if dry_run():
            return 0
        counted: list[Scheduling] = []
        if not options.no_schedule and not real:
            shift = next(iter(what.matrix())).shift
            counted = scheduling(plain, options.xen, schedulers_of(what), folder, shift)
        whole = {
            "benchmarks": [asdict(one) for one in found],
            "schedule": [asdict(one) for one in counted],
            "context": {
                "command": shlex.join(["lab", *sys.argv[1:]]),
                "started_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
                **({"runs": options.runs} if real else {"shift": next(iter(what.matrix())).shift}),
                "xen_base": options.xen,
                **accelerator,
                "hashes": {v: dict(lab.build(v).hashes) for v in VARIANTS},
            },
        }
        report.write_json(folder / "bench.json", whole)
        document.write(bench_page.page(json.loads(json.dumps(whole))), folder)
        text = table(found)
        (folder / "table.txt").write_text(text + "\n")
        final = report.final_name(folder)
    print(text)
    print(f"bench: {final}")
    return 0


def table(found: Iterable[Cost]) -> str:
    """A line a benchmark: microseconds, and instructions where they are known."""
    lines = [
        f"{'scheduler':<9} {'Xen':<8} {'operation':<26} {'members':>7} {'us':>9} {'instr.':>8}"
    ]
    for one in found:
        lines.append(
            f"{one.scheduler:<9} {one.variant:<8} {one.name:<26} {one.members:>7} "
            f"{one.time_ns / 1e3:>9.1f} "
            + (f"{'-':>8}" if one.instructions is None else f"{one.instructions:>8.0f}")
        )
    return "\n".join(lines)
