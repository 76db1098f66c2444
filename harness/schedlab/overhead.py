# SPDX-License-Identifier: GPL-2.0-only
"""Contract E6: what the series costs on a host without groups, and whether it changes a choice.

Two measurements by QEMU's own log, so nothing is added to the hypervisor:

* every instruction of ``common/sched`` that ``schedule()`` executes, from its first to the one that
  calls ``context_switch()`` or returns to the softirq loop.  Helpers outside (timers, locks, cpu
  masks) are not counted: the series does not touch them;
* every entry of ``context_switch()``, with the two vCPUs, on the machine as it is always run.

vCPUs are told apart by the order in which they first appear, so that two builds with structures of
other sizes can be compared.

An instruction takes virtual time, so any added one moves every instant after it, and the order of
switches with it, sooner or later.  What that alone does is shown by a control: stock Xen whose
``schedule()`` executes as many ``nop`` more.  The series switched off (``--variant patched-off``)
is to be the same to the end.
"""

from __future__ import annotations

import argparse
import bisect
import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from schedlab import checkpoint, qemu, report, run, scenario
from schedlab.core.errors import LabError
from schedlab.qemu import Artifacts, Machine, Process, Watcher
from schedlab.run import Lab
from schedlab.scenario import Dims, Scenario

# The target of DESIGN.md, 4.
MOST_ADDED = 10
LOG_FILE = "instructions.log"
# The machine under one-insn-per-tb is slower by about this.
SLOWER = 20.0
STOCK = "stock"
_TRACE = re.compile(r"^Trace (\d+): \S+ \[[0-9a-f]+/([0-9a-f]+)/")
_REGISTERS = re.compile(r"RSI=([0-9a-f]+) RDI=([0-9a-f]+)")


@dataclass(frozen=True)
class Symbols:
    """Addresses, ascending, and the names of what begins there."""

    addresses: tuple[int, ...]
    names: tuple[str, ...]

    def address(self, name: str) -> int:
        """LabError where there is none."""
        if name not in self.names:
            raise LabError(f"the hypervisor has no symbol {name}", "is it a Xen with xen-syms?")
        return self.addresses[self.names.index(name)]

    def name(self, address: int) -> str:
        """The function that an address belongs to."""
        return self.names[bisect.bisect_right(self.addresses, address) - 1]

    def end(self, name: str) -> int:
        """Where the next one begins."""
        return self.addresses[bisect.bisect_right(self.addresses, self.address(name))]

    def scheduler(self) -> tuple[int, int]:
        """From the first to behind the last function of the schedulers and their core.

        The linker keeps them in the order of common/sched/Makefile: cpupool.o, the schedulers,
        core.o.
        """
        middle = self.address("csched_schedule")
        before = [
            address
            for address, name in zip(self.addresses, self.names)
            if name.startswith("cpupool_") and address < middle
        ]
        if not before:
            raise LabError("no cpupool_… below csched_schedule", "has common/sched/Makefile moved?")
        return self.end(self.name(max(before))), self.end("schedule_dump")


def symbols(text: str) -> Symbols:
    """From the output of nm -n."""
    pairs = [line.split() for line in text.splitlines()]
    kept = [(int(p[0], 16), p[2]) for p in pairs if len(p) == 3 and p[1] in "tT"]
    return Symbols(tuple(a for a, _ in kept), tuple(n for _, n in kept))


@dataclass(frozen=True)
class Invocation:
    """One run of schedule(): instructions by function, and whether it ended in a switch."""

    functions: tuple[tuple[str, int], ...]
    switched: bool

    @property
    def instructions(self) -> int:
        """All of them."""
        return sum(count for _, count in self.functions)


def invocations(lines: Iterable[str], known: Symbols) -> Iterator[Invocation]:
    """Those that are whole in a log of executed instructions."""
    start, switch = known.address("schedule"), known.address("context_switch")
    inside = known.scheduler()
    counting: dict[str, Counter[str]] = {}
    for line in lines:
        match = _TRACE.match(line)
        if not match:
            continue
        cpu, address = match[1], int(match[2], 16)
        if address == start:
            counting[cpu] = Counter()
        if cpu not in counting:
            continue
        if inside[0] <= address < inside[1]:
            counting[cpu][known.name(address)] += 1
        else:
            counts = counting.pop(cpu)
            yield Invocation(tuple(sorted(counts.items())), address == switch)


def switches(lines: Iterable[str]) -> list[tuple[str, int, int]]:
    """(pCPU, vCPU that goes, vCPU that comes), vCPUs numbered as they first appear."""
    numbers: dict[str, int] = {}
    found: list[tuple[str, int, int]] = []
    cpu = ""
    for line in lines:
        if match := _TRACE.match(line):
            cpu = match[1]
        elif match := _REGISTERS.search(line):
            one, two = (numbers.setdefault(m, len(numbers)) for m in (match[2], match[1]))
            found.append((cpu, one, two))
    return found


@dataclass(frozen=True)
class Cost:
    """``schedule()`` on one build: instructions, of invocations that switched or did not.

    ``shortest``: of each function that is in all of them, its own shortest way; ``least``: the sum
    of those.  So builds are compared on one way through each function, whichever ways met in a run.
    """

    invocations: int
    least: int
    median: float
    shortest: tuple[tuple[str, int], ...]

    @staticmethod
    def of(found: list[Invocation], switched: bool) -> Cost:
        """LabError of none: nothing was measured."""
        ended = [one for one in found if one.switched == switched]
        if not ended:
            raise LabError("schedule() was never seen to end", "is the log's format another?")
        functions = [dict(one.functions) for one in ended]
        always = set.intersection(*(set(found) for found in functions))
        shortest = {name: min(found[name] for found in functions) for name in sorted(always)}
        median = statistics.median(one.instructions for one in ended)
        return Cost(len(ended), sum(shortest.values()), median, tuple(shortest.items()))


@dataclass(frozen=True)
class Compared:
    """One machine: stock against the variant.

    ``switches``: how many there are; ``same``: how many are stock's, from the first; ``control``:
    so many are in stock Xen with as many ``nop`` as the variant added (None: it added nothing).
    """

    dims: str
    stock: tuple[Cost, Cost]
    ours: tuple[Cost, Cost]
    switches: tuple[int, int]
    same: int
    control: int | None

    @property
    def added(self) -> int:
        """The most that the shortest way through schedule() has grown."""
        return grown(self.stock, self.ours)

    @property
    def identical(self) -> bool:
        """Whether the order of switches is stock's from beginning to end."""
        return self.switches == (self.same, self.same)

    @property
    def meets(self) -> bool:
        """E6, as far as it can be decided by counting."""
        return self.added <= MOST_ADDED and (self.added != 0 or self.identical)


def padded(built: Artifacts, xen: str, count: int) -> Artifacts:
    """Stock Xen with so many instructions more in schedule()."""
    # Imported here: the unit tests need no builds.
    from schedlab.build import Artifacts as RealArtifacts
    from schedlab.build import Layout, mutant

    assert isinstance(built, RealArtifacts)
    found: Artifacts = mutant.boots(built, mutant.with_nops(Layout.from_environment(), xen, count))
    return found


def grown(stock: tuple[Cost, Cost], ours: tuple[Cost, Cost]) -> int:
    """Instructions by which the shortest way through schedule() is longer, at most."""
    return max(two.least - one.least for one, two in zip(stock, ours))


def same_until(one: Sequence[object], two: Sequence[object]) -> int:
    """How many are equal, from the first."""
    differ = (k for k, (a, b) in enumerate(zip(one, two)) if a != b)
    return next(differ, min(len(one), len(two)))


class Bench:
    """Runs the scenario under QEMU's log.  ``stock+6`` is stock Xen with six ``nop``."""

    def __init__(
        self, lab: Lab, xen: str, what: Scenario, folder: Path, *, groups: bool = False
    ) -> None:
        def build(variant: str) -> Artifacts:
            stock, plus, count = variant.partition("+")
            return padded(lab.build(stock), xen, int(count)) if plus else lab.build(variant)

        self._lab = replace(lab, build=build)
        self._what, self._folder, self._groups = what, folder, groups

    def symbols(self, variant: str) -> Symbols:
        """Of a variant's xen-syms."""
        done = subprocess.run(
            ["nm", "-n", self._lab.build(variant).xen_syms], capture_output=True, text=True
        )
        if done.returncode:
            raise LabError(f"nm: {done.stderr.strip()}", "make setup installs binutils")
        return symbols(done.stdout)

    def log(self, variant: str, dims: Dims, ranges: list[str], extra: list[str], one: bool) -> Path:
        """Run it; the log.

        ``one``: an instruction a translation block, from a checkpoint, as a boot would take long.
        Otherwise cold: the two builds have the same past then, but for what the series adds.
        """
        lab, artifacts = self._lab, self._lab.build(variant)
        machine: Machine = run.machine_of(dims)
        state: Path | None = None
        if one:
            made = checkpoint.get(
                lab.store, machine, artifacts, lab.logs, lab.watchdog_s, lab.cancel
            )
            state = made / checkpoint.STATE_FILE
        folder = self._folder / f"{dims.name()}-{variant}-{'count' if one else 'order'}"
        folder.mkdir(parents=True)
        text = self._what.as_json(dims, groups=self._groups)
        (folder / qemu.SCENARIO_FILE).write_text(text)
        command = qemu.command(machine, artifacts, self._what.images(dims.kind), incoming=state)
        argv = command.argv
        if one:
            argv[argv.index("tcg")] = "tcg,one-insn-per-tb=on"
        argv += ["-d", ",".join(["exec", "nochain", *extra]), "-dfilter", ",".join(ranges)]
        argv += ["-D", LOG_FILE]
        (folder / "command.sh").write_text(command.script())
        patience_s = lab.watchdog_s + SLOWER * self._what.length_ns / 1e9
        with Process(command, folder) as process:
            outcome = Watcher(folder, patience_s, lab.cancel).wait(process)
        if outcome.status != qemu.STATUS_ENDED:
            raise LabError(f"{folder.name}: {outcome.reason}", "see its serial log", folder)
        return folder / LOG_FILE

    def cost(self, variant: str, dims: Dims) -> tuple[Cost, Cost]:
        """(Invocations that switched, those that did not.)"""
        known = self.symbols(variant)
        first, last = known.scheduler()
        softirq = known.address("__do_softirq"), known.end("__do_softirq")
        ranges = [f"{a:#x}..{b - 1:#x}" for a, b in ((first, last), softirq)]
        ranges.append(f"{known.address('context_switch'):#x}+1")
        log = self.log(variant, dims, ranges, [], one=True)
        with log.open(errors="replace") as lines:
            found = list(invocations(lines, known))
        return Cost.of(found, True), Cost.of(found, False)

    def order(self, variant: str, dims: Dims) -> list[tuple[str, int, int]]:
        """All switches."""
        known = self.symbols(variant)
        log = self.log(
            variant, dims, [f"{known.address('context_switch'):#x}+1"], ["cpu"], one=False
        )
        with log.open(errors="replace") as lines:
            found = switches(lines)
        log.unlink()
        if not found:
            raise LabError("no switch was seen", "is the log's format another?")
        return found

    def compare(self, variant: str, dims: Dims) -> Compared:
        """Stock and the variant on one machine."""
        stock, ours = self.order(STOCK, dims), self.order(variant, dims)
        costs = self.cost(STOCK, dims), self.cost(variant, dims)
        added = grown(*costs)
        control = None
        if added > 0:
            control = same_until(stock, self.order(f"{STOCK}+{added}", dims))
        return Compared(
            dims.name(),
            *costs,
            (len(stock), len(ours)),
            same_until(stock, ours),
            control,
        )


def table(found: Iterable[Compared]) -> str:
    """A line a machine and kind of invocation."""
    lines = [
        f"{'machine':<12} {'schedule()':<12} {'stock':>7} {'ours':>7} {'added':>6} "
        f"{'median':>15}  switches in stock's order (control)"
    ]
    for one in found:
        order = "all" if one.identical else f"the first {one.same}"
        order += f" of {one.switches[0]}"
        if one.control is not None:
            order += f" ({one.control})"
        for kind, stock, ours in zip(("switches", "goes on"), one.stock, one.ours):
            lines.append(
                f"{one.dims:<12} {kind:<12} {stock.least:>7} {ours.least:>7} "
                f"{ours.least - stock.least:>+6} {stock.median:>7g} {ours.median:>7g}  {order}"
            )
    return "\n".join(lines)


def main(options: argparse.Namespace, lab: Lab, scenarios: Path) -> int:
    """Exit status 0: within the target; and not one choice changed where nothing is added."""
    what = scenario.load(scenario.find("no_group", scenarios))
    what = scenario.override(
        what, schedulers=options.scheduler, pcpus=options.pcpus, shift=options.shift
    )
    with report.new_run(options.out, "overhead") as folder:
        bench = Bench(lab, options.xen, what, folder)
        found = []
        for dims in what.matrix():
            print(f"  {dims.name()} …", file=sys.stderr, flush=True)
            found.append(bench.compare(options.variant, dims))
        text = table(found)
        (folder / "table.txt").write_text(text + "\n")
        report.write_json(
            folder / "overhead.json",
            {"most_added": MOST_ADDED, "machines": [_plain(one) for one in found]},
        )
        final = report.final_name(folder)
    print(text)
    print(f"overhead: {final}")
    return 0 if all(one.meets for one in found) else 1


def _plain(one: Compared) -> dict[str, object]:
    return {**asdict(one), "added": one.added, "identical": one.identical}
