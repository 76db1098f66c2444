# SPDX-License-Identifier: GPL-2.0-only
"""The two sides of a comparison: what a side is, running the cases on both, and what is kept.

A side is words joined by ``+``, in any order, each at most once:

    stock, patched, patched-debug, patched-off   the hypervisor (patched where none is named)
    4.17, 4.20                                   the base
    @REVISION                                    the series as that git revision had it (the + may
                                                 be left out before it: patched@HEAD~3)
    credit, credit2                              the scheduler
    sockets, cores; pv, pvh; shift=7             the machine and its guests
    xen:OPTION                                   an option of Xen's, as xen:sched_ratelimit_us=0
    results/…                                    a run, or a side of one, that is there already

What a side names is no dimension any more: rows are paired without it.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from schedlab import compare, kvm, report, run, scenario, stats
from schedlab.core.command import dry_run
from schedlab.core.errors import LabError
from schedlab.matrix import KINDS
from schedlab.oracle import Verdict, worst
from schedlab.page import compare_page, document
from schedlab.qemu import TOPOLOGIES
from schedlab.run import Case, Lab
from schedlab.scenario import Dims, Scenario

STOCK = "stock"
_SCHEDULERS = ("credit", "credit2")
_TOPOLOGIES = tuple(TOPOLOGIES)


@dataclass(frozen=True)
class Side:
    """One side; ``dims`` are the dimensions that it names, ``run`` a run that is there."""

    text: str
    variant: str = "patched"
    base: str | None = None
    revision: str | None = None
    dims: dict[str, Any] = field(default_factory=dict)
    xen_options: str = ""
    run: Path | None = None

    def name(self) -> str:
        """For a folder."""
        return re.sub(r"[^A-Za-z0-9.]+", "-", self.text).strip("-")


def parse(text: str, variants: Sequence[str]) -> Side:
    """LabError names the word that is none."""
    if "/" in text and (found := result_file(Path(text))) is not None:
        return Side(text, run=found)
    side = Side(text)
    seen: list[str] = []
    for word in re.sub(r"(?<=[^+])@", "+@", text, count=1).split("+"):
        kind, side = _word(side, word, text, variants)
        if kind in seen and kind != "option":
            raise LabError(f"side {text}: two of one kind ({word})", "name one of them")
        seen.append(kind)
    return side


def _word(side: Side, word: str, text: str, variants: Sequence[str]) -> tuple[str, Side]:
    if word in variants:
        return "variant", replace(side, variant=word)
    if re.fullmatch(r"\d+\.\d+", word):
        return "base", replace(side, base=word, dims={**side.dims, "base": word})
    if word.startswith("@") and len(word) > 1:
        return "revision", replace(side, revision=word[1:])
    if word.startswith("xen:") and len(word) > 4:
        return "option", replace(side, xen_options=f"{side.xen_options} {word[4:]}".strip())
    for dimension, known in (
        ("scheduler", _SCHEDULERS),
        ("topology", _TOPOLOGIES),
        ("kind", KINDS),
    ):
        if word in known:
            return dimension, replace(side, dims={**side.dims, dimension: word})
    if match := re.fullmatch(r"shift=(\d+)", word):
        return "shift", replace(side, dims={**side.dims, "shift": int(match[1])})
    known_words = ", ".join([*variants, "4.17", *_SCHEDULERS, *_TOPOLOGIES, *KINDS])
    raise LabError(
        f"side {text}: {word!r} is no side",
        f"give {known_words}, shift=N, @REVISION, xen:OPTION (joined by +), or a run's folder",
    )


def result_file(folder: Path) -> Path | None:
    """The result.json of a folder, if it has one; or any such file."""
    path = folder if folder.suffix == ".json" else folder / report.RESULT_FILE
    return path if path.is_file() else None


@dataclass(frozen=True)
class Job:
    """A case to measure; ``side`` is one of a comparison, or a variant."""

    side: str
    what: Scenario
    dims: Dims
    study: str = ""


def cells(what: Scenario, side: Side) -> list[Dims]:
    """The scenario's cells on that side: dimensions that it names have that value alone."""
    return list(dict.fromkeys(replace(dims, **side.dims) for dims in what.matrix()))


def main(
    options: argparse.Namespace,
    sides: tuple[Side, Side],
    labs: Callable[[Side], Lab],
    accelerator: Mapping[str, str],
    scenarios: Path,
    calibration: Path,
) -> int:
    """Exit status: 0, or 1 where something regressed and that was asked for; 2, an error.

    ``accelerator``: what executes, and what was found of it, for the results' context.
    """
    started = time.time()
    what = [_load(name, options, scenarios) for name in options.scenario or ["ten_percent"]]
    named = dict(zip("ab", sides))
    results = {n: [json.loads(s.run.read_text())] for n, s in named.items() if s.run is not None}
    ready = {n: labs(side) for n, side in named.items() if side.run is None}
    contexts = [one["context"] for found in results.values() for one in found]
    contexts += [accelerator for _ in ready]
    real = _real([context.get("time", "virtual") for context in contexts])
    for name, lab in ready.items():
        side = named[name]
        builds = {dims.variant(side.variant) for one in what for dims in cells(one, side)}
        for build in sorted(builds):
            lab.build(build)
            if not real:
                run.calibrate(lab, build, calibration)
    title = f"compare-{sides[0].name()}-{sides[1].name()}"[:80]

    def measured(folder: Path) -> dict[str, list[list[Case]]]:
        if real:
            return _sampled(ready, named, what, folder, options.runs)
        return _measure(ready, named, what, folder, options.jobs)

    if dry_run():
        measured(Path(title))
        return 0
    with report.new_run(options.out, title) as folder:
        cases = measured(folder)
        for name in ready:
            context = _side_context(ready[name], named[name], options.xen, accelerator)
            results[name] = [
                report.result([(c, None) for c in found], context, _verdict(found))
                for found in cases[name]
            ]
            for one in results[name]:
                (folder / name).mkdir(exist_ok=True)
                report.write_json(folder / name / f"{one['scenario']}.json", one)
        rows = rows_of(results["a"], results["b"], sides, real)
        found = compare.as_json(
            rows,
            {name: _plain(side, results[name]) for name, side in named.items()},
            {
                "command": shlex.join(["lab", *sys.argv[1:]]),
                "started_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
                "wall_s": time.time() - started,
                **(accelerator if ready else {}),
                "time": "real" if real else "virtual",
                **({"runs": options.runs} if real and ready else {}),
            },
        )
        report.write_json(folder / "compare.json", found)
        text = compare.table(rows, (sides[0].text, sides[1].text))
        (folder / "table.txt").write_text(text + "\n")
        document.write(compare_page.page(found), folder)
        final = report.final_name(folder)
    print(text)
    said = ", ".join(f"{count} {status}" for status, count in found["counts"].items())
    print(f"{sides[0].text} (A) against {sides[1].text} (B): {len(rows)} rows: {said}: {final}")
    if options.fail_on_regression and found["regressions"]:
        print(f"{found['regressions']} rows regressed (--fail-on-regression)", file=sys.stderr)
        return 1
    return 0


def _load(name: str, options: argparse.Namespace, scenarios: Path) -> Scenario:
    what = scenario.load(scenario.find(name, scenarios))
    what = scenario.override(
        what, schedulers=options.scheduler, pcpus=options.pcpus, shift=options.shift
    )
    return scenario.within(what, options.tier)


def _verdict(cases: Sequence[Case]) -> Verdict:
    return worst(case.judgement.verdict for case in cases)


def _real(times: Sequence[str]) -> bool:
    if len(set(times)) > 1:
        raise LabError("one side is in virtual time and one in real time", "compare like with like")
    return set(times) == {"real"}


def rows_of(
    a: Sequence[dict[str, Any]], b: Sequence[dict[str, Any]], sides: tuple[Side, Side], real: bool
) -> list[compare.Row]:
    """From the sides' results to rows, without the dimensions that a side names."""
    ignore = {*sides[0].dims, *sides[1].dims}
    found = [
        [
            v
            for one in side
            for c in one["cases"]
            for v in compare.values(one["scenario"], c, ignore, real_time=real)
        ]
        for side in (a, b)
    ]
    return compare.compare(*found, real_time=real)


def _plain(side: Side, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    plain: dict[str, Any] = {
        **asdict(side),
        "run": None if side.run is None else str(side.run.parent),
    }
    builds = {c["context"].get(f"{side.variant}.xen") for one in results for c in one["cases"]}
    plain["xen"] = sorted(one for one in builds if one)
    return {**plain, "verdicts": {one["scenario"]: one["verdict"] for one in results}}


def _side_context(
    lab: Lab, side: Side, base: str, accelerator: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "side": side.text,
        "xen_base": side.base or base,
        "xen_options": side.xen_options,
        "qemu": lab.build(side.variant).qemu.version,
        "start": "cold" if lab.cold else "checkpoint",
        "time": "virtual",
        **accelerator,
    }


def _sampled(
    labs: dict[str, Lab],
    sides: dict[str, Side],
    what: Sequence[Scenario],
    folder: Path,
    runs: int,
) -> dict[str, list[list[Case]]]:
    """The same in real time: so many runs of each cell, A's and B's in turn, one at a time."""
    kvm.enough(runs)
    todo = [
        (Job(name, one, cells(one, sides[name])[k]), number)
        for one in what
        for k in range(max(len(cells(one, sides[name])) for name in labs))
        for name, number in stats.turns(list(labs), runs)
        if k < len(cells(one, sides[name]))
    ]
    cases = []
    for ready, (job, number) in enumerate(todo, 1):
        side = sides[job.side]
        place = folder / job.side / f"{job.what.name}-{job.dims.name()}" / f"{number:02}"
        groups = side.variant != STOCK
        parts = (labs[job.side], job.what, job.dims, side.variant, place)
        cases.append(run.measure(*parts, groups=groups))
        if not dry_run():
            say(job, cases[-1], ready, len(todo))
    return {
        name: [
            [c for (job, _), c in zip(todo, cases) if job.side == name and job.what is one]
            for one in what
        ]
        for name in labs
    }


def _measure(
    labs: dict[str, Lab],
    sides: dict[str, Side],
    what: Sequence[Scenario],
    folder: Path,
    jobs: int,
) -> dict[str, list[list[Case]]]:
    """By side, a list a scenario; A's and B's of a cell one after the other."""
    todo = [
        Job(name, one, dims) for one in what for name in labs for dims in cells(one, sides[name])
    ]

    def measure(job: Job) -> Case:
        side = sides[job.side]
        place = folder / job.side / f"{job.what.name}-{job.dims.name()}"
        groups = side.variant != STOCK
        return run.measure(labs[job.side], job.what, job.dims, side.variant, place, groups=groups)

    cases = in_parallel(measure, todo, list(labs.values()), jobs, say)
    return {
        name: [
            [case for job, case in zip(todo, cases) if job.side == name and job.what is one]
            for one in what
        ]
        for name in labs
    }


def say(job: Job, case: Case, ready: int, of: int) -> None:
    took = "known" if case.cached else f"{case.outcome.wall_s:.1f} s"
    text = f"  {job.what.name} {job.dims.name()} {job.side.upper()} … "
    text += f"{case.judgement.verdict.word}, {took} ({ready}/{of})"
    print(text, file=sys.stderr, flush=True)


def in_parallel(
    measure: Callable[[Job], Case],
    todo: Sequence[Job],
    labs: Sequence[Lab],
    jobs: int,
    say: Callable[[Job, Case, int, int], None],
) -> list[Case]:
    """All of them, ``jobs`` at once; an error in one stops them all."""
    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        futures: dict[Future[Case], Job] = {pool.submit(measure, job): job for job in todo}
        pending = set(futures)
        try:
            while pending:
                done, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in done:
                    case = future.result()
                    if not dry_run():
                        say(futures[future], case, len(futures) - len(pending), len(futures))
        except BaseException:
            # The pool's end waits for its threads: they must see this and let go of their QEMUs.
            for lab in labs:
                lab.cancel.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [future.result() for future in futures]
