# SPDX-License-Identifier: GPL-2.0-only
"""The acceptance matrix: all scenarios, all their cells, side by side, one verdict each.

Every file of the scenarios' folder is in it but the calibration, which is judged before anything is
measured.  A case is a cell of a scenario with a seed; its verdict is the oracle's, and of the smoke
tier also the golden ledger's (ledger.py).

First each machine's checkpoint is made, then the cases run, the longest first, as many at once as
there are jobs.  A case that cannot be run is an error, and the others go on.  What a case leaves is
kept where it did not pass: a folder each, with the command that does it again.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from schedlab import checkpoint, junit, ledger, matrix, report, run, scenario, summary
from schedlab.core.command import dry_run
from schedlab.core.errors import LabError
from schedlab.matrix import DEFAULT_BASE, Dims
from schedlab.oracle import Check, Verdict, worst
from schedlab.qemu import Machine
from schedlab.run import Lab
from schedlab.scenario import Scenario

VARIANT = "patched"
# Not part of the matrix: it is what comes before.
CALIBRATION = "calibration"
# Wall seconds of a case: for its start, and for a virtual second, by the most pCPUs (the mean of
# tier full, two at once on two cores).  Only the order and the time left hang on it.
START_S = 0.6
PER_VIRTUAL_S = ((1, 0.05), (2, 0.2), (4, 0.3), (8, 0.35), (16, 0.8))
KNOWN_S = 0.05
_SAY_EVERY_S = 5.0
GONE = "cases that are gone"


@dataclass(frozen=True, eq=False)
class Item:
    """A case to be run; ``given`` is what ``lab run`` finds its scenario by."""

    given: str
    scenario: Scenario
    dims: Dims
    tier: str

    @property
    def name(self) -> str:
        """Unique in the matrix."""
        return f"{self.scenario.name}/{self.dims.name()}"

    @property
    def cost_s(self) -> float:
        """Wall seconds, about; the same everywhere."""
        rate = next(rate for most, rate in PER_VIRTUAL_S if self.dims.pcpus <= most)
        return START_S + rate * self.scenario.of(self.dims).length_ns / 1e9

    def again(self) -> str:
        """The command that does it again."""
        words = ["harness/lab", "run", self.given, "--case", self.dims.name()]
        if self.dims.seed not in (cell.dims.seed for cell in self.scenario.cells):
            words += ["--seed", str(self.dims.seed)]
        return shlex.join([*words, "--no-reference", "--no-cache"])


@dataclass(frozen=True)
class Result:
    """How a case went; ``folder`` is set where what it left is kept."""

    item: Item
    verdict: Verdict
    reason: str
    wall_s: float = 0.0
    cpu_s: float = 0.0
    cached: bool = False
    folder: Path | None = None
    checks: tuple[Check, ...] = ()
    lines: dict[str, list[int]] = field(default_factory=dict)


def collect(
    folder: Path,
    names: Sequence[str],
    *,
    tier: str,
    seeds: int | None = None,
    base: str | None = None,
) -> list[Item]:
    """The cases of a tier; of all scenarios, or those named.

    ``seeds``: each with so many seeds, from 1 on.  ``base``: those of that Xen; without it the
    smaller tiers have those of the usual one, ``full`` all.
    """
    paths = [scenario.find(name, folder) for name in names]
    if not names:
        paths = [path for path in sorted(folder.glob("*.toml")) if path.stem != CALIBRATION]
    if base is None and tier != matrix.TIERS[-1]:
        base = DEFAULT_BASE
    items: list[Item] = []
    for path in paths:
        what = scenario.load(path)
        given = path.stem if path.parent == folder else str(path)
        tiers = {cell.dims: cell.tier for cell in what.cells}
        for dims in what.matrix(tier):
            if base in (None, dims.base):
                sown = [dims] if seeds is None else []
                sown += [replace(dims, seed=seed) for seed in range(1, (seeds or 0) + 1)]
                items += [Item(given, what, one, tiers[dims]) for one in dict.fromkeys(sown)]
    if not items:
        raise LabError(
            f"there is no case in tier {tier}" + (f" for Xen {base}" if base else ""),
            "give a larger --tier, or other scenarios",
        )
    return items


def shard(items: Sequence[Item], part: int, parts: int) -> list[Item]:
    """The part (from 1) of so many, which together are all, and take about as long each."""
    if not 1 <= part <= parts:
        raise LabError(f"there is no shard {part} of {parts}", "say --shard 2/5")
    loads = [0.0] * parts
    mine = set()
    for item in sorted(items, key=lambda item: (-item.cost_s, item.name)):
        least = loads.index(min(loads))
        loads[least] += item.cost_s
        if least == part - 1:
            mine.add(item)
    return [item for item in items if item in mine]


class Runner:
    """Runs cases in a pool; ``say`` is told how it goes."""

    def __init__(self, lab: Lab, jobs: int, folder: Path, say: Callable[[str, bool], None]) -> None:
        self._lab, self._jobs, self._folder, self._say = lab, max(1, jobs), folder, say
        self._broken: dict[tuple[str, Machine], LabError] = {}

    def run(self, items: Sequence[Item], calibration: Path) -> list[Result]:
        """All of them, in their order."""
        names = sorted({item.dims.variant(VARIANT) for item in items})
        unfit: dict[str, LabError] = {}
        for name in names:
            try:
                run.calibrate(self._lab, name, calibration)
            except LabError as error:
                unfit[name] = error
        if len(unfit) == len(names):
            raise unfit[names[0]]
        machines = {_machine(item): item for item in items}
        self._broken = {m: unfit[m[0]] for m in machines if m[0] in unfit}
        machines = {m: item for m, item in machines.items() if m not in self._broken}
        if not self._lab.cold:
            self._pool(
                list(machines.values()), self._boot, lambda item: 1.0 + item.dims.pcpus, None
            )
        results = self._pool(list(items), self._one, self._cost, self._progress)
        return [results[item] for item in items]

    def _boot(self, item: Item) -> None:
        """Make the checkpoint; where that fails, its cases will say so."""
        lab, (name, machine) = self._lab, _machine(item)
        try:
            checkpoint.get(
                lab.store, machine, lab.build(name), lab.logs, lab.watchdog_s, lab.cancel
            )
        except LabError as error:
            self._broken[_machine(item)] = error

    def _cost(self, item: Item) -> float:
        if dry_run() or not self._lab.cache or _machine(item) in self._broken:
            return item.cost_s
        return (
            KNOWN_S if run.is_known(self._lab, item.scenario, item.dims, VARIANT) else item.cost_s
        )

    def _one(self, item: Item) -> Result:
        """The case, and nothing of what it left if it passed."""
        broken = self._broken.get(_machine(item))
        folder = self._folder / item.scenario.name / item.dims.name()
        try:
            if broken is not None:
                raise broken
            case = run.measure(self._lab, item.scenario, item.dims, VARIANT, folder)
        except LabError as error:
            return Result(item, Verdict.ERROR, f"{error.what}; {error.remedy}")
        if dry_run():
            return Result(item, Verdict.SKIP, case.judgement.reason)
        verdict, reason = case.judgement.verdict, case.judgement.reason
        hello = run.hello_of(case)
        if verdict < Verdict.ERROR and hello is not None:
            if not hello.xen_version.startswith(f"{item.dims.base}."):
                verdict = Verdict.ERROR
                reason = f"Xen {hello.xen_version} was booted, not {item.dims.base}"
        lines = ledger.lines_of(case) if verdict < Verdict.ERROR else {}
        found = Result(
            item,
            verdict,
            reason,
            case.outcome.wall_s,
            case.outcome.cpu_s,
            case.cached,
            folder,
            case.judgement.checks,
            lines,
        )
        # What the ledger has a word in may yet fail.
        return found if _golden(found) else dropped(found)

    def _pool(
        self,
        items: list[Item],
        do: Callable[[Item], Any],
        cost: Callable[[Item], float],
        progress: Callable[[Item, Any, float, int, int], None] | None,
    ) -> dict[Item, Any]:
        costs = {item: cost(item) for item in items}
        total_s, done_s, started = sum(costs.values()), 0.0, time.monotonic()
        results: dict[Item, Any] = {}
        with ThreadPoolExecutor(max_workers=self._jobs) as pool:
            order = sorted(items, key=lambda item: (-costs[item], item.name))
            futures: dict[Future[Any], Item] = {pool.submit(do, item): item for item in order}
            pending = set(futures)
            try:
                while pending:
                    done, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                    for future in done:
                        item = futures[future]
                        results[item] = future.result()
                        done_s += costs[item]
                        if progress is not None:
                            spent_s = time.monotonic() - started
                            left_s = max(0.0, spent_s / done_s * (total_s - done_s))
                            progress(item, results[item], left_s, len(results), len(items))
            except BaseException:
                # The pool's end waits for its threads: they must let go of their QEMUs.
                self._lab.cancel.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return results

    def _progress(self, item: Item, result: Result, left_s: float, done: int, of: int) -> None:
        took = "known" if result.cached else f"{result.wall_s:.1f} s"
        left = f"{left_s / 60:.0f} min" if left_s >= 90 else f"{left_s:.0f} s"
        word = result.verdict.word
        said = f"[{done}/{of}, {left} left] {item.name} … {word}, {took}"
        self._say(said, result.verdict > Verdict.SKIP or done == of)


def _machine(item: Item) -> tuple[str, Machine]:
    return item.dims.variant(VARIANT), run.machine_of(item.dims)


def dropped(result: Result) -> Result:
    """The result; of what a case left that passed, nothing is kept."""
    if result.folder is None or result.verdict > Verdict.SKIP:
        return result
    shutil.rmtree(result.folder)
    return replace(result, folder=None)


def by_ledger(
    results: Sequence[Result], known: ledger.Ledger, now: ledger.Ledger, whole: bool
) -> tuple[list[Result], str]:
    """The smoke tier's results, as the ledger has them too; and what it says of itself.

    ``whole``: all of the tier has been run, so that what is missing is gone.
    """
    reason = ledger.foreign(known, now)
    if reason:
        return list(results), f"does not judge here ({reason}): the oracle alone does"
    judged, smoke, same = [], set(), 0
    for result in results:
        if _golden(result):
            smoke.add(result.item.name)
            delta = ledger.difference(known.cases.get(result.item.name), result.lines)
            same += not delta
            if delta and result.verdict == Verdict.PASS:
                why = ledger.changed(known, now)
                said = f"not what the ledger has, {why}; if it is meant: make bless\n"
                result = replace(result, verdict=Verdict.FAIL, reason=said + "\n".join(delta))
        judged.append(result)
    words = f"{same} of {len(smoke)} cases are as they were accepted"
    gone = sorted(set(known.cases) - smoke) if whole else []
    if gone:
        words += f"; it has {GONE}: {', '.join(gone)}: make bless"
    return judged, words


def _golden(result: Result) -> bool:
    """Whether the ledger has a word in it."""
    return result.item.tier == matrix.TIERS[0] and result.item.dims.seed == matrix.DEFAULT_SEED


def main(options: argparse.Namespace, lab: Lab, scenarios: Path, golden: Path) -> int:
    """Exit status: 0 all passed, 1 one failed, 2 one could not be run."""
    started = time.time()
    for other in options.add_junit:
        junit.suites(other)  # better to know that it is not there now
    items = collect(
        scenarios, options.names, tier=options.tier, seeds=options.seeds, base=options.xen
    )
    if options.shard is not None:
        items = shard(items, *options.shard)
    whole = not options.names and options.shard is None and options.xen in (None, DEFAULT_BASE)
    say = _Speaker()
    calibration = scenarios / f"{CALIBRATION}.toml"
    if dry_run():
        Runner(lab, options.jobs, options.out / "RUN", say).run(items, calibration)
        return 0
    with report.new_run(options.out, f"accept-{options.tier}") as folder:
        results = Runner(lab, options.jobs, folder, say).run(items, calibration)
        say.end()
        judge = "has none of these cases"
        if any(_golden(result) for result in results):
            now = ledger.blank(lab.build(VARIANT))
            if golden.exists():
                results, judge = by_ledger(results, ledger.read(golden), now, whole)
            else:
                judge = f"is not there ({golden.name}): make bless"
        results = [dropped(result) for result in results]
        for left in folder.iterdir():
            if not any(left.iterdir()):
                left.rmdir()
        gone = GONE in judge
        final = report.final_name(folder)
        for result in results:
            if result.folder is not None:
                _explain(result)
        text = summary.page(
            results, judge, time.time() - started, options.jobs, options.seeds, final, folder
        )
        (folder / "summary.txt").write_text(text + "\n")
        report.write_json(folder / "accept.json", _json(results, options, judge, started))
        entries = [_entry(result, folder, final) for result in results]
        counts = junit.write(folder / "junit.xml", "accept", entries, options.add_junit)
        counts += junit.Counts(failed=int(gone))
        if options.junit is not None:
            options.junit.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / "junit.xml", options.junit)
    print(text)
    print(f"results: {final}")
    print(f"{counts.line()} in {time.time() - started:.1f} s")
    verdict = worst(result.verdict for result in results)
    if verdict > Verdict.FAIL:
        return 2
    return 1 if counts.failed else 0


def bless(options: argparse.Namespace, lab: Lab, scenarios: Path, golden: Path) -> int:
    """Write the ledger of the smoke tier as it is now; what changes is shown."""
    items = collect(scenarios, (), tier=matrix.TIERS[0])
    say = _Speaker()
    with tempfile.TemporaryDirectory(prefix="nemesis-") as folder:
        runner = Runner(lab, options.jobs, Path(folder), say)
        results = runner.run(items, scenarios / f"{CALIBRATION}.toml")
    say.end()
    if dry_run():
        return 0
    bad = [result for result in results if result.verdict != Verdict.PASS]
    for result in bad:
        print(f"{result.verdict.word}: {result.item.name}: {result.reason}")
    if bad:
        raise LabError(
            f"{len(bad)} cases do not pass, so nothing is blessed",
            "the oracle comes first: harness/lab accept --tier smoke",
        )
    now = ledger.blank(lab.build(VARIANT))
    text = ledger.write(replace(now, cases={result.item.name: result.lines for result in results}))
    delta = ledger.diff(golden, text)
    temporary = golden.with_name(f".{golden.name}.tmp")
    temporary.write_text(text)
    temporary.replace(golden)
    print(delta or "nothing has changed")
    print(f"blessed: {len(results)} cases: {golden}")
    return 0


def _explain(result: Result) -> None:
    """Put beside what a case left: its scenario, the reason, the command."""
    assert result.folder is not None
    (result.folder / "scenario.toml").write_text(result.item.scenario.text)
    (result.folder / "again.sh").write_text(f"#!/bin/sh\n{result.item.again()}\n")
    bad = [check for check in result.checks if check.verdict > Verdict.SKIP]
    said = [f"{result.verdict.word}: {result.reason}", ""]
    said += [json.dumps({**asdict(check), "verdict": check.verdict.word}) for check in bad]
    (result.folder / "reason.txt").write_text("\n".join(said) + "\n")


def _entry(result: Result, folder: Path, final: Path) -> junit.Entry:
    text = result.item.scenario.description
    if result.verdict > Verdict.SKIP:
        text += f"\n\n{result.reason}\n\nagain: {result.item.again()}"
        if result.folder is not None:
            text += f"\nleft: {final / result.folder.relative_to(folder)}"
    first = result.reason.split("\n", 1)[0]
    return junit.Entry(
        result.item.scenario.name,
        result.item.dims.name(),
        result.verdict,
        first,
        text,
        result.wall_s,
    )


def _json(
    results: Iterable[Result], options: argparse.Namespace, judge: str, started: float
) -> dict[str, Any]:
    return {
        "tier": options.tier,
        "seeds": options.seeds,
        "shard": None if options.shard is None else "/".join(map(str, options.shard)),
        "jobs": options.jobs,
        "started_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "wall_s": time.time() - started,
        "ledger": judge,
        "cases": [
            {
                "name": result.item.name,
                "dims": asdict(result.item.dims),
                "tier": result.item.tier,
                "verdict": result.verdict.word,
                "reason": result.reason,
                "wall_s": result.wall_s,
                "cpu_s": result.cpu_s,
                "cached": result.cached,
                "checks": [
                    {
                        "clause": check.clause,
                        "phase": check.phase,
                        "where": check.where,
                        "domains": check.domains,
                        "expected": check.expected,
                        "measured": check.measured,
                        "tolerance": check.tolerance,
                        "below": check.below,
                        "aim": check.aim,
                        "verdict": check.verdict.word,
                    }
                    for check in result.checks
                    if check.span_ns
                ],
            }
            for result in results
        ],
    }


class _Speaker:
    """Progress on stderr: one line that changes on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._last = 0.0
        self._terminal = sys.stderr.isatty()
        self._lock = threading.Lock()

    def __call__(self, text: str, keep: bool) -> None:
        """``keep``: it is to be seen whatever comes next."""
        with self._lock:
            if self._terminal:
                end = "\n" if keep else ""
                print(f"\r\x1b[K  {text}"[:200], end=end, file=sys.stderr, flush=True)
            elif keep or time.monotonic() - self._last > _SAY_EVERY_S:
                self._last = time.monotonic()
                print(f"  {text}", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the line."""
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
