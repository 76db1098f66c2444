# SPDX-License-Identifier: GPL-2.0-only
"""The developers' loop: edit, and see the table again.

It looks at three things, twice a second: the developers' tree of Xen (``make xen-tree``) as it is,
not committed edits included; the sources of guests and controller; the scenario.  Where one
differs, what depends on it is built, and the scenario is measured and judged as ``lab run`` does.
Edited hypervisors are not calibrated, the stock one is; nothing goes into ``results/``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from schedlab import checkpoint, matrix, report, run, scenario
from schedlab.core.command import dry_run
from schedlab.core.errors import LabError
from schedlab.core.store import Store, exclusive
from schedlab.oracle import Verdict, worst
from schedlab.qemu import Cancelled
from schedlab.run import Case, Lab
from schedlab.scenario import Scenario

LOOK_S = 0.5
# So many edited hypervisors stay in the store, with their checkpoints and cases: an edit that is
# undone costs nothing.
KEPT = 4

# (lab, what, variant, with_stock, folder, jobs): cli's measurement of a whole matrix.
Measure = Callable[[Lab, Scenario, str, bool, Path, int], list[tuple[Case, Case | None]]]
# What may change, by name; values say nothing but "other than before".
Look = Mapping[str, str]

_DIAGNOSTIC = re.compile(
    r"\S+?:(\d+:)+ *(fatal )?(error|warning|note):|\S+:\d+: Error:|\s+\d* \||.*: In function |"
    r".*undefined reference to |.*: in function `|.*multiple definition of |CMake Error"
)
_ERROR = re.compile(r"\b[Ee]rror:|undefined reference|multiple definition|CMake Error")


class Subject(Protocol):
    """What is watched and turned."""

    def look(self) -> Look:
        """The state of everything that a table depends on; LabError where one cannot be read."""

    def difference(self, before: Look, after: Look) -> str:
        """What has changed, for people."""

    def turn(self, stale: threading.Event) -> int | None:
        """Build, measure, show; the exit status, or None when ``stale`` was set meanwhile."""


def watch(subject: Subject, once: bool, look_s: float = LOOK_S) -> int:
    """Turn at each change; with ``once`` turn once, and return the exit status."""
    seen: Look | None = None
    failed = 0
    while True:
        try:
            now = subject.look()
        except LabError as error:
            # Once may be an editor that is saving; after that it is said, and not twice a second.
            failed += 1
            if failed == 2 and once:
                raise
            if failed == 2:
                print(error.render(), file=sys.stderr, flush=True)
            time.sleep(look_s)
            continue
        failed = 0
        if now == seen:
            time.sleep(look_s)
            continue
        if seen is not None:
            stamp = time.strftime("%H:%M:%S")
            print(f"\n{stamp} changed: {subject.difference(seen, now)}", flush=True)
        seen = now
        with _stale_when_changed(subject, now, look_s) as stale:
            status = subject.turn(stale)
        if once:
            return 2 if status is None else status
        if status is None:
            continue
        print("watching (Ctrl-C ends it)", file=sys.stderr, flush=True)


@contextmanager
def _stale_when_changed(subject: Subject, now: Look, look_s: float) -> Iterator[threading.Event]:
    """An event that is set when the subject is no longer what it was."""
    stale, done = threading.Event(), threading.Event()

    def wait() -> None:
        while not done.wait(2 * look_s):
            try:
                if subject.look() != now:
                    stale.set()
                    return
            except LabError:
                pass  # a file went while it was read: the next look tells

    thread = threading.Thread(target=wait, name="watch")
    thread.start()
    try:
        yield stale
    finally:
        done.set()
        thread.join()


def diagnostics(log: str) -> list[str]:
    """What compilers and linkers complained about in a build's output; empty where they did not."""
    lines = [line for line in log.splitlines() if _DIAGNOSTIC.match(line)]
    return lines if any(_ERROR.search(line) for line in lines) else []


def in_tree(line: str, tree: Path) -> str:
    """Xen names its files from its own folder: name them in the developers' tree."""
    name = re.match(r"[^\s:]+", line)
    if name is None or not (tree / "xen" / name[0]).is_file():
        return line
    return os.path.relpath(tree / "xen" / name[0]) + line[name.end() :]


@dataclass
class Clock:
    """Wall and CPU seconds, of this process and of all that it has waited for."""

    wall_s: float
    cpu_s: float

    @staticmethod
    def now() -> Clock:
        return Clock(time.monotonic(), sum(os.times()[:4]))

    def since(self) -> str:
        now = Clock.now()
        return f"{now.wall_s - self.wall_s:.1f} s ({now.cpu_s - self.cpu_s:.1f} s of CPU)"


class Development:
    """The real subject."""

    def __init__(
        self, options: argparse.Namespace, lab: Lab, scenarios: Path, calibration: Path, do: Measure
    ) -> None:
        from schedlab.build import Layout, series

        self._options = options
        self._lab = lab
        self._do = do
        self._calibration = calibration
        self._layout = Layout.from_environment()
        self._path = scenario.find(options.scenario, scenarios)
        self._folder = self._layout.build / "dev"
        self._records: dict[str, str] = {}
        self._tree: Path = options.tree or series.xen_tree(self._layout, options.xen)
        if not options.once:
            watched = f"{self._tree}, guests/ and {self._path.name}"
            print(f"watching {watched}: edit, and the table comes again", file=sys.stderr)

    def look(self) -> Look:
        from schedlab.build import worktree, xen
        from schedlab.build.guests import sources

        options = self._options
        try:
            text = self._path.read_text()
        except OSError as error:
            raise LabError(f"{self._path}: {error.strerror}", "is it being saved?") from error
        parts = "".join(part.read_text() for part in xen.fragments(self._layout, options.config))
        self._source = worktree.snapshot(self._layout, options.xen, self._tree)
        return {
            "xen": self._source.tree,
            "hypervisor/config": parts,
            "scenario": text,
            **sources(self._layout),
        }

    def difference(self, before: Look, after: Look) -> str:
        from schedlab.build import worktree

        names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        if "xen" in names:
            names.remove("xen")
            names += worktree.changed(self._layout, self._options.xen, before["xen"], after["xen"])
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        return ", ".join(names[:5]) + more

    def turn(self, stale: threading.Event) -> int | None:
        clock = Clock.now()
        logs = {log: log.stat().st_size for log in self._layout.build.glob("logs/*.log")}
        try:
            return self._turn(stale, clock)
        except Cancelled:
            print("changed meanwhile: again", file=sys.stderr)
            return None
        except LabError as error:
            print(self._render(error, logs), file=sys.stderr)
            print(f"not built, or not measured, in {clock.since()}", file=sys.stderr, flush=True)
            return 2

    def _render(self, error: LabError, logs: Mapping[Path, int]) -> str:
        """Compilers' own words, where it is they who complain."""
        if error.log is None or not error.log.is_file():
            return error.render()
        with error.log.open("rb") as file:
            file.seek(logs.get(error.log, 0))
            said = diagnostics(file.read().decode(errors="replace"))
        if not said:
            return error.render()
        return "\n".join([f"lab: {error.what}", *(in_tree(line, self._tree) for line in said)])

    def _turn(self, stale: threading.Event, clock: Clock) -> int | None:
        from schedlab.build import EDITED, edited

        options, source = self._options, self._source
        what = scenario.override(
            scenario.load(self._path),
            schedulers=options.scheduler,
            pcpus=options.pcpus,
            shift=options.shift,
            base=options.xen,
        )
        if options.case is None:
            what = scenario.within(what, matrix.DEFAULT_TIER)
        else:
            what = scenario.only(what, options.case)
        # A cell may have a build of its own (Dims.variant).
        built = {}
        for name in {dims.variant(EDITED) for dims in what.matrix()}:
            config = name.rpartition("/")[2].partition("-")[2] or options.config
            built[name] = edited(self._layout, options.xen, source, config)
        ready = clock.since()
        lab = replace(
            self._lab,
            build=lambda name: built[name] if name in built else self._lab.build(name),
            cancel=stale,
        )
        with_stock = not options.no_reference
        with_stock = with_stock and any(p.show and not p.grouped for p in what.phases)
        run.calibrate(lab, "stock", self._calibration)
        if stale.is_set():
            return None
        folder = self._folder / what.name
        shutil.rmtree(folder, ignore_errors=True)
        with exclusive(self._folder / "lock", "a table"):
            cases = self._do(lab, what, EDITED, with_stock, folder, options.jobs)
            if dry_run():
                return 0
            self._keep(lab.store, [one.hashes["xen"] for one in built.values()])
        verdict = worst(case.judgement.verdict for case, _ in cases)
        print(report.table(cases))
        for text in report.failures(case for case, _ in cases):
            print(text)
        print(self._news([case for case, _ in cases]))
        print(
            f"{what.name}: {verdict.word}, {len(cases)} cases, built in {ready}, "
            f"all in {clock.since()}: {folder}",
            flush=True,
        )
        return {Verdict.PASS: 0, Verdict.SKIP: 0, Verdict.FAIL: 1}.get(verdict, 2)

    def _news(self, cases: Sequence[Case]) -> str:
        """Whether anything is not as it was in the table before."""
        before, self._records = self._records, {}
        for case in cases:
            file = case.folder / "records.jsonl"
            data = file.read_bytes() if file.is_file() else b""
            self._records[case.dims.name()] = hashlib.sha256(data).hexdigest()
        same = [name for name in self._records if name in before]
        other = [name for name in same if self._records[name] != before[name]]
        if not same:
            return "not calibrated: an edited hypervisor is taken as it is"
        return f"records differ from the table before: {', '.join(other) or 'none'}"

    def _keep(self, store: Store, made: Sequence[str]) -> None:
        """Note edited hypervisors as the last ones; forget those of long ago."""
        from schedlab.build import xen as recipes

        if self._source.tree == recipes.source(self._layout, self._options.xen, "patched").tree:
            return
        file = self._folder / "edits.json"
        edits: list[str] = json.loads(file.read_text()) if file.is_file() else []
        edits = [*made, *(one for one in edits if one not in made)]
        forget(store, edits[KEPT:])
        file.write_text(json.dumps(edits[:KEPT]))


def forget(store: Store, hypervisors: Sequence[str]) -> list[Path]:
    """Remove hypervisors, by the SHA-256 of the file, and what was made with them."""
    doomed = []
    for step in ("xen", checkpoint.STEP, run.STEP):
        for file in sorted(store.root.glob(f"{step}/*/manifest.json")):
            manifest = json.loads(file.read_text())
            made = manifest["outputs"].get("xen", {}).get("sha256")
            if (made if step == "xen" else manifest["inputs"].get("xen")) in hypervisors:
                file.unlink()  # without it the rest is no entry
                shutil.rmtree(file.parent)
                doomed.append(file.parent)
    return doomed


def main(
    options: argparse.Namespace, lab: Lab, scenarios: Path, calibration: Path, do: Measure
) -> int:
    """Watch until Ctrl-C; with ``--once`` the exit status of the only turn."""
    try:
        subject = Development(options, lab, scenarios, calibration, do)
        return watch(subject, options.once or dry_run())
    except KeyboardInterrupt:
        if options.once:
            raise
        print("\nlab: no longer watching", file=sys.stderr)
        return 0
