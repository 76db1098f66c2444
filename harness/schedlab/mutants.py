# SPDX-License-Identifier: GPL-2.0-only
"""Mutants: small breakages of the series, each of which some test must catch.

A mutant is one file in ``hypervisor/mutants``: ``why`` (the clause it breaks), ``edit`` (``file``,
``old``, ``new``; the old text is in the patched source exactly once), ``catch`` (tests, tried in
order until one goes red), or ``equivalent`` (the proof that nothing that is promised changes).

A test is ``unit`` (the series' arithmetic in user space) or ``scenario[:scheduler[:pcpus]]``, and
``debug/…`` or ``flask/…`` on a hypervisor built so; or ``toolstack:test`` of
tests/test_toolstack.py, where all edits are below tools/, and the toolstack is built with them.
Scenarios start cold, so what they find is the same on every machine.  Every test named must be
green on the series as it is, or nothing is concluded.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from schedlab import oracle, report, run, scenario
from schedlab.core.errors import LabError
from schedlab.matrix import DEFAULT_BASE, DEFAULT_BUILD
from schedlab.oracle import Verdict
from schedlab.run import Lab
from schedlab.scenario import Dims, Scenario

# A mutant may hang: the controller is silent for a boot (a few seconds) at most.
WATCHDOG_S = 30.0
CAUGHT, SURVIVED, EQUIVALENT = "caught", "survived", "equivalent"
# It does not build, or the lab failed: nothing is known of it.
BROKEN = "broken"
TOOLSTACK = "toolstack:"


@dataclass(frozen=True)
class Mutant:
    """``edits`` are (file, old, new)."""

    name: str
    why: str
    edits: tuple[tuple[str, str, str], ...]
    catch: tuple[str, ...]
    equivalent: str


@dataclass(frozen=True)
class Found:
    """What became of a mutant: which test caught it, and what that said."""

    name: str
    outcome: str
    by: str
    said: str
    why: str


# Runs a test on a mutant (None: the series as it is): "" when it is green, else what it says.
Judge = Callable[[Mutant | None, str], str]


def load(path: Path) -> Mutant:
    """Raises LabError, naming file and key."""
    try:
        raw = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise LabError(
            f"{path}: {error}", "a mutant is TOML: hypervisor/mutants/README.md"
        ) from error

    def wrong(what: str) -> LabError:
        return LabError(f"{path.name}: {what}", "see hypervisor/mutants/README.md")

    unknown = sorted(set(raw) - {"why", "catch", "edit", "equivalent"})
    if unknown:
        raise wrong(f"unknown key {unknown[0]}")
    for key in ("why", "edit"):
        if not raw.get(key):
            raise wrong(f"{key} is missing")
    edits: list[tuple[str, str, str]] = []
    for edit in raw["edit"]:
        if set(edit) != {"file", "old", "new"}:
            raise wrong("an edit has file, old and new")
        edits.append((edit["file"], edit["old"], edit["new"]))
    catch = tuple(raw.get("catch", ()))
    if bool(catch) == bool(raw.get("equivalent")):
        raise wrong("either catch names tests, or equivalent has the proof")
    return Mutant(path.stem, raw["why"], tuple(edits), catch, raw.get("equivalent", ""))


def load_all(folder: Path, names: Sequence[str]) -> list[Mutant]:
    """All of a folder, or those named; LabError names one that is not there."""
    paths = {path.stem: path for path in sorted(folder.glob("*.toml"))}
    for name in names:
        if name not in paths:
            raise LabError(f"no mutant {name}", f"there are: {', '.join(paths)}")
    return [load(path) for stem, path in paths.items() if not names or stem in names]


def hunt(mutant: Mutant, judge: Judge) -> Found:
    """Try the mutant's tests until one is red."""
    if mutant.equivalent:
        return Found(mutant.name, EQUIVALENT, "", mutant.equivalent.strip(), mutant.why)
    for test in mutant.catch:
        try:
            said = judge(mutant, test)
        except LabError as error:
            return Found(mutant.name, BROKEN, test, str(error), mutant.why)
        if said:
            return Found(mutant.name, CAUGHT, test, said, mutant.why)
    return Found(mutant.name, SURVIVED, "", f"green: {', '.join(mutant.catch)}", mutant.why)


def hunt_all(
    mutants: Sequence[Mutant], judge: Judge, jobs: int, say: Callable[[str], None]
) -> list[Found]:
    """The tests on the series as it is first: LabError where one is red.  Then each mutant."""
    tests = sorted({test for mutant in mutants for test in mutant.catch})
    started = time.monotonic()

    def each(work: Iterable[Any], do: Callable[[Any], Any], label: str) -> list[Any]:
        items = list(work)
        done: list[Any] = []
        with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
            futures = [pool.submit(do, item) for item in items]
            try:
                for k, future in enumerate(futures, 1):
                    one = future.result()
                    done.append(one)
                    elapsed = time.monotonic() - started
                    line = f"{label} {k}/{len(items)}, {elapsed:.0f} s"
                    if isinstance(one, Found):
                        line += f": {one.name} {one.outcome}" + (f" by {one.by}" if one.by else "")
                    say(line)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return done

    red = [
        (test, said)
        for test, said in zip(tests, each(tests, lambda test: judge(None, test), "unmutated: test"))
        if said
    ]
    if red:
        raise LabError(
            f"{red[0][0]} is red on the series as it is: {red[0][1]}",
            "nothing can be concluded from mutants until it is green",
        )
    return each(mutants, lambda mutant: hunt(mutant, judge), "mutant")


def table(found: Sequence[Found]) -> str:
    """A line a mutant."""
    width = max((len(one.name) for one in found), default=0)
    lines = [
        f"{one.name:<{width}}  {one.outcome:<10}  {one.by or '-':<26}  "
        f"{one.said.splitlines()[0][:120]}"
        for one in found
    ]
    count = {
        word: sum(one.outcome == word for one in found)
        for word in (CAUGHT, SURVIVED, EQUIVALENT, BROKEN)
    }
    lines.append(", ".join(f"{number} {word}" for word, number in count.items()))
    return "\n".join(lines)


class RealJudge:
    """Builds mutants, and runs tests on them."""

    def __init__(self, xen: str, scenarios: Path, lab: Lab, folder: Path) -> None:
        from schedlab.build import Layout, artifacts

        self._layout = Layout.from_environment()
        self._artifacts = artifacts
        self._xen = xen
        self._scenarios = scenarios
        self._lab = replace(lab, cold=True, watchdog_s=WATCHDOG_S)
        self._folder = folder

    def __call__(self, mutant: Mutant | None, test: str) -> str:
        from schedlab.build import mutant as recipe

        edits = [recipe.Edit(*edit) for edit in mutant.edits] if mutant else []
        who = mutant.name if mutant else "none"
        if test.startswith(TOOLSTACK):
            if self._xen != DEFAULT_BASE:
                raise LabError(f"{test} is a test of {DEFAULT_BASE}", "leave out --xen")
            entry = recipe.toolstack(self._layout, self._xen, edits, who)
            return self._toolstack(entry, test.removeprefix(TOOLSTACK), who)
        config, _, name = test.rpartition("/")
        config = config or "release"
        entry = recipe.hypervisor(self._layout, self._xen, config, edits, who)
        if name == "unit":
            return self._unit(entry)
        return self._scenario(entry, config, test, who)

    def _unit(self, entry: Path) -> str:
        from schedlab.build import mutant as recipe

        with tempfile.TemporaryDirectory(prefix="nemesis-") as folder:
            program = recipe.unit_tests(self._layout, entry, Path(folder))
            done = subprocess.run([program, "--gtest_brief=1"], capture_output=True, text=True)
        failed = [line for line in done.stdout.splitlines() if line.startswith("[  FAILED  ]")]
        return failed[0] if failed else "" if done.returncode == 0 else f"exit {done.returncode}"

    def _toolstack(self, entry: Path, test: str, who: str) -> str:
        from schedlab.build import toolstack

        initramfs = toolstack.image(self._layout, self._xen, entry) / "initramfs"
        folder = self._folder / who / test
        folder.parent.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"]
        words += [f"--basetemp={folder}", f"--toolstack={initramfs}"]
        words += [f"tests/test_toolstack.py::{test}"]
        harness = self._layout.root / "harness"
        done = subprocess.run(words, cwd=harness, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            raise LabError(f"pytest of {test} ended with {done.returncode}:\n{done.stdout}")
        said = [line[1:].strip() for line in done.stdout.splitlines() if line.startswith("E ")]
        return "" if done.returncode == 0 else said[0] if said else "red"

    def _scenario(self, entry: Path, config: str, test: str, who: str) -> str:
        from schedlab.build import mutant as recipe

        what, cases = cases_of(test, self._scenarios)
        mutated = recipe.boots(self._artifacts(self._xen, "patched", config), entry)
        lab = replace(self._lab, build=lambda variant: mutated)
        for dims in cases:
            # Two tests may have a machine in common, and run at once.
            folder = self._folder / who / test.replace("/", "-").replace(":", "-") / dims.name()
            case = run.measure(lab, what, dims, "patched", folder)
            verdict = case.judgement.verdict
            if verdict in (Verdict.FAIL, Verdict.CRASH):
                return f"{dims.name()}: {verdict.word}: {case.judgement.reason}"
            if verdict == Verdict.ERROR and who == "none":
                raise LabError(
                    f"{test} on {dims.name()}: {case.judgement.reason}", "see its records"
                )
        return ""


def cases_of(test: str, scenarios: Path) -> tuple[Scenario, list[Dims]]:
    """The scenario that a mutant's ``catch`` names, and the cases that are run of it.

    The mutant is booted in each build's place, so it is those of the release's and of its own.
    LabError where there is none.
    """
    config, _, name = test.rpartition("/")
    stem, *dimensions = name.split(":")
    what = scenario.load(scenario.find(stem, scenarios))
    schedulers = [dimensions[0]] if dimensions else []
    pcpus = [int(dimensions[1])] if len(dimensions) > 1 else []
    what = scenario.override(what, schedulers=schedulers, pcpus=pcpus, shift=None)
    builds = (DEFAULT_BUILD, config)

    def those_of(matrix: Iterable[Dims]) -> list[Dims]:
        return [dims for dims in matrix if dims.base == DEFAULT_BASE and dims.build in builds]

    cases = those_of(what.matrix("test")) or those_of(what.matrix())
    if not cases:
        raise LabError(f"{test} is no case of {stem}", "nothing would be run")
    return what, cases


def main(options: argparse.Namespace, lab: Lab, folder: Path, scenarios: Path) -> int:
    """Exit status 0: none survived; 1: some did; 2: of some nothing is known."""
    mutants = load_all(folder, options.names)
    if options.list:
        for mutant in mutants:
            print(f"{mutant.name}: {mutant.why}")
        return 0
    with report.new_run(options.out, "mutants") as made:
        judge = RealJudge(options.xen, scenarios, lab, made)

        def say(text: str) -> None:
            print(f"  {text}", file=sys.stderr, flush=True)

        found = hunt_all(mutants, judge, options.jobs, say)
        final = report.final_name(made)
        text = table(found)
        (made / "table.txt").write_text(text + "\n")
        report.write_json(
            made / "mutants.json",
            {
                "xen_base": options.xen,
                "oracle_period_ns": oracle.PERIOD_NS,
                "mutants": [asdict(one) for one in found],
            },
        )
    print(text)
    print(f"mutants: {final}")
    outcomes = {one.outcome for one in found}
    return 2 if BROKEN in outcomes else 1 if SURVIVED in outcomes else 0
