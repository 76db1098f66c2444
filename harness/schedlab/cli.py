# SPDX-License-Identifier: GPL-2.0-only
"""The command line: ``lab run``, ``accept``, ``dev``, ``gdb``, ``shell``, ``list``, ….

Results go to stdout, progress and errors to stderr.  Exit status: 0 all passed, 1 a check failed, 2
could not run (an error or a crash), 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from schedlab import (
    accept,
    bench,
    checkpoint,
    debug,
    dev,
    headline,
    index,
    kvm,
    ledger,
    mutants,
    overhead,
    qemu,
    report,
    run,
    scenario,
    sides,
    toolstack,
)
from schedlab.core.command import dry_run, interrupt_on_sigterm
from schedlab.core.errors import LabError
from schedlab.core.store import Store
from schedlab.matrix import DEFAULT_BASE, DEFAULT_TIER, TIERS
from schedlab.oracle import Verdict, worst
from schedlab.page import document, run_page, timeline_plot
from schedlab.qemu import Artifacts
from schedlab.run import Case, Lab
from schedlab.scenario import Dims, Scenario

REPOSITORY = Path(__file__).resolve().parents[2]
SCENARIOS = REPOSITORY / "harness" / "scenarios"
CALIBRATION = SCENARIOS / "calibration.toml"
RESULTS = REPOSITORY / "results"
GOLDEN = RESULTS / ledger.FILE
MUTANTS = REPOSITORY / "hypervisor" / "mutants"
_STEPS = (checkpoint.STEP, run.STEP, "calibration")
_EXIT = {
    Verdict.PASS: 0,
    Verdict.SKIP: 0,
    Verdict.FAIL: 1,
    Verdict.ERROR: 2,
    Verdict.CRASH: 2,
}
EXIT_COULD_NOT_RUN = 2
EXIT_INTERRUPTED = 130

# What --variant takes: a source and, after a dash, a configuration that is not the release.
VARIANTS = ("patched", "stock", "patched-debug", "patched-off", "patched-flask")

# Builds the artifacts of a Xen base and one of VARIANTS.
Builder = Callable[[str, str], Artifacts]


def build_folder() -> Path:
    """Where everything made is kept."""
    return Path(os.environ.get("NEMESIS_BUILD") or REPOSITORY / "build").resolve()


def main(argv: Sequence[str] | None = None, build: Builder | None = None) -> int:
    """The exit status; ``build`` replaces the real builds (for tests)."""
    words = list(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(words)
    if threading.current_thread() is threading.main_thread():
        interrupt_on_sigterm()
    try:
        status: int = options.action(options, build or _real_build)
        return status
    except LabError as error:
        print(error.render(), file=sys.stderr)
        return EXIT_COULD_NOT_RUN
    except OSError as error:
        # What names no better culprit: a full disk, a folder that may not be written to.
        print(LabError(str(error), "see to that file or disk").render(), file=sys.stderr)
        return EXIT_COULD_NOT_RUN
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lab",
        description="Boots Xen nested in QEMU, runs scenarios on it, judges them.",
        epilog="DRY=1 prints every command instead of running it.",
    )
    commands = parser.add_subparsers(dest="command", required=True)

    runner = commands.add_parser("run", help="run a scenario and judge it")
    runner.add_argument("scenario", metavar="SCENARIO", help="name, or path of a .toml file")
    runner.add_argument(
        "--scheduler", type=_words, default=(), metavar="A,B", help="instead of the scenario's"
    )
    runner.add_argument(
        "--pcpus", type=_numbers, default=(), metavar="1,2,4", help="instead of the scenario's"
    )
    runner.add_argument("--shift", type=int, help="2^SHIFT ns of virtual time an instruction")
    runner.add_argument("--trace", action="store_true", help="the hypervisor's own, as a timeline")
    runner.add_argument("--seed", type=_numbers, default=(), metavar="1,2", help="as --pcpus")
    runner.add_argument("--tier", choices=TIERS, default=DEFAULT_TIER, help="(%(default)s)")
    runner.add_argument("--case", metavar="NAME", help="this cell alone, as credit2-4p-cap5")
    runner.add_argument("--variant", choices=VARIANTS, default="patched")
    runner.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="gets the run")
    runner.add_argument("--cold", action="store_true", help="boot each case, use no checkpoint")
    runner.add_argument("--no-reference", action="store_true", help="leave out stock Xen's figures")
    _add_accel(runner)
    _add_runs(runner)
    runner.set_defaults(action=_run)

    acceptor = commands.add_parser("accept", help="run the whole matrix, and say how it went")
    acceptor.add_argument("names", nargs="*", metavar="SCENARIO", help="these alone")
    acceptor.add_argument("--tier", choices=TIERS, default=DEFAULT_TIER, help="(%(default)s)")
    acceptor.add_argument("--shard", type=_shard, metavar="2/5", help="the second fifth of it")
    acceptor.add_argument("--seeds", type=int, metavar="N", help="each case with so many seeds")
    acceptor.add_argument("--junit", type=Path, metavar="FILE", help="gets the JUnit XML, too")
    acceptor.add_argument(
        "--add-junit",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="of other tests: put into ours, and counted",
    )
    acceptor.set_defaults(action=_accept)

    blesser = commands.add_parser("bless", help="accept the smoke tier's results as they are now")
    blesser.set_defaults(action=_bless)

    for command in (acceptor, blesser):
        command.add_argument("--out", type=Path, default=RESULTS, metavar="DIR")

    prober = commands.add_parser("probe", help="does nested Xen run under KVM here?")
    prober.set_defaults(action=_probe)

    hoster = commands.add_parser(
        "kvm-host", help="a command of this program on an emulated host with KVM, in real time"
    )
    hoster.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND…")
    hoster.set_defaults(action=_kvm_host)

    calibrator = commands.add_parser("calibrate", help="check Xen and QEMU by a known answer")
    calibrator.add_argument("--variant", choices=VARIANTS, default="patched")
    calibrator.set_defaults(action=_calibrate)

    counter = commands.add_parser("overhead", help="what the series costs where there is no group")
    counter.add_argument("--scheduler", type=_words, default=(), metavar="A,B")
    counter.add_argument("--pcpus", type=_numbers, default=(), metavar="1,2,4")
    counter.add_argument("--shift", type=int, help="2^SHIFT ns of virtual time an instruction")
    counter.add_argument("--variant", choices=VARIANTS, default="patched", help="against stock")
    counter.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="gets the run")
    counter.set_defaults(action=_overhead)

    hunter = commands.add_parser("mutants", help="break the series, and see which test catches it")
    hunter.add_argument("names", nargs="*", metavar="MUTANT", help="these alone")
    hunter.add_argument("--list", action="store_true", help="say what there is")
    hunter.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="gets the run")
    hunter.set_defaults(action=_mutants)

    sheller = commands.add_parser("shell", help="a shell in dom0 with xl, nemesis and Python")
    sheller.add_argument("--variant", choices=VARIANTS, default="patched")
    sheller.add_argument("--scheduler", default="credit2", metavar="NAME")
    sheller.add_argument("--pcpus", type=int, default=1, metavar="N")
    sheller.add_argument("--xen", default=DEFAULT_BASE, metavar="BASE", help="Xen base")
    sheller.set_defaults(action=_shell)

    comparer = commands.add_parser(
        "compare",
        help="the same cases on two sides, paired",
        description=sides.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    comparer.add_argument("scenario", nargs="*", metavar="SCENARIO", help="(ten_percent)")
    comparer.add_argument("--a", required=True, metavar="SIDE")
    comparer.add_argument("--b", required=True, metavar="SIDE")
    comparer.add_argument("--scheduler", type=_words, default=(), metavar="A,B")
    comparer.add_argument("--pcpus", type=_numbers, default=(), metavar="1,2,4")
    comparer.add_argument("--shift", type=int, help="2^SHIFT ns of virtual time an instruction")
    comparer.add_argument("--tier", choices=TIERS, default=DEFAULT_TIER, help="(%(default)s)")
    comparer.add_argument("--cold", action="store_true", help="boot each case, use no checkpoint")
    comparer.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="gets the run")
    comparer.add_argument(
        "--fail-on-regression", action="store_true", help="exit status 1 where B is worse"
    )
    _add_accel(comparer)
    _add_runs(comparer)
    comparer.set_defaults(action=_compare)

    bencher = commands.add_parser("bench", help="what operations cost, in instructions")
    bencher.add_argument("--scheduler", type=_words, default=(), metavar="A,B")
    bencher.add_argument("--shift", type=int, help="2^SHIFT ns of virtual time an instruction")
    _add_accel(bencher)
    _add_runs(bencher)
    bencher.add_argument("--filter", default="", metavar="REGEX", help="these benchmarks alone")
    bencher.add_argument("--no-schedule", action="store_true", help="leave schedule() out")
    bencher.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="gets the run")
    bencher.set_defaults(action=_bench)

    headliner = commands.add_parser("headline", help="what groups are worth, in one page")
    headliner.add_argument("--study", action="append", choices=headline.STUDIES, help="these alone")
    headliner.add_argument("--scheduler", type=_words, default=(), metavar="A,B")
    headliner.add_argument("--pcpus", type=_numbers, default=(), metavar="1,2,4")
    headliner.add_argument("--no-linux", action="store_true", help="leave Linux cgroups out")
    headliner.add_argument("--no-schedule", action="store_true", help="leave schedule() out")
    headliner.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="gets the run")
    headliner.set_defaults(action=_headline)

    developer = commands.add_parser("dev", help="edit, and see the table again")
    developer.add_argument("scenario", metavar="SCENARIO", help="name, or path of a .toml file")
    developer.add_argument("--scheduler", type=_words, default=(), metavar="A,B")
    developer.add_argument("--pcpus", type=_numbers, default=(), metavar="1,2,4")
    developer.add_argument("--shift", type=int, help="2^SHIFT ns of virtual time an instruction")
    developer.add_argument("--case", metavar="NAME", help="this cell alone, as credit2-4p-cap5")
    developer.add_argument("--config", default="release", help="of the hypervisor: release, debug")
    developer.add_argument("--no-reference", action="store_true", help="leave out stock Xen")
    developer.add_argument(
        "--tree", type=Path, metavar="DIR", help="another git tree of Xen than build/xen-BASE"
    )
    developer.add_argument("--once", action="store_true", help="one table, watch nothing")
    developer.set_defaults(action=_dev)

    debugger = commands.add_parser("gdb", help="stop a scenario in the hypervisor, with GDB")
    debugger.add_argument("scenario", metavar="SCENARIO", help="name, or path of a .toml file")
    debugger.add_argument("--scheduler", type=_words, default=(), metavar="A,B")
    debugger.add_argument("--pcpus", type=_numbers, default=(), metavar="1,2,4")
    debugger.add_argument("--shift", type=int, help="2^SHIFT ns of virtual time an instruction")
    debugger.add_argument("--case", metavar="NAME", help="this cell, as credit2-4p-cap5")
    debugger.add_argument("--variant", choices=(*VARIANTS, "edited"), default="patched")
    debugger.add_argument(
        "--at", metavar="T", help="stop at that time of the scenario (+T: since the checkpoint)"
    )
    debugger.add_argument(
        "--stop", action="append", default=[], metavar="B", help="at a function or file:line"
    )
    debugger.add_argument("--batch", action="store_true", help="run commands and end")
    debugger.add_argument("--ex", action="append", default=[], metavar="COMMAND", help="of GDB")
    debugger.set_defaults(action=_debug)

    for command in (runner, acceptor, blesser):
        command.add_argument(
            "--no-cache",
            action="store_true",
            default=os.environ.get("NO_CACHE", "0") not in ("", "0"),
            help="measure again what is known, and be told if it differs (NO_CACHE=1)",
        )

    for command in (
        *(runner, acceptor, blesser, calibrator, counter, hunter),
        *(comparer, bencher, headliner),
        *(developer, debugger, prober),
    ):
        # Of what is run, the scenario may say it.
        base = None if command in (runner, acceptor) else DEFAULT_BASE
        command.add_argument(
            "--xen", default=base, metavar="BASE", help=f"Xen base ({DEFAULT_BASE})"
        )
        command.add_argument(
            "--watchdog",
            type=_seconds,
            default=qemu.DEFAULT_WATCHDOG_S,
            metavar="S",
            help="wall seconds without a sign of life (%(default)g)",
        )
        command.add_argument(
            "--jobs",
            type=int,
            default=min(2, os.cpu_count() or 1),
            metavar="N",
            help="machines at once (%(default)s)",
        )

    shower = commands.add_parser("report", help="make a run's page again; without one, the index")
    shower.add_argument("run", nargs="?", type=Path, metavar="FOLDER")
    shower.add_argument("--picture", action="store_true", help="the README's, from headline.json")
    shower.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="the runs")
    shower.set_defaults(action=_report)

    lister = commands.add_parser("list", help="list the scenarios")
    lister.set_defaults(action=_list)

    cleaner = commands.add_parser(
        "clean", help="remove checkpoints, known cases, calibrations and leftovers"
    )
    cleaner.add_argument("--out", type=Path, default=RESULTS, metavar="DIR")
    cleaner.set_defaults(action=_clean)
    return parser


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _add_accel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--accel",
        default=os.environ.get("ACCEL") or qemu.TCG,
        metavar="tcg|kvm",
        help="kvm: in real time, where it works (ACCEL=kvm)",
    )


def _add_runs(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--runs",
        type=int,
        default=kvm.RUNS,
        metavar="N",
        help="of each case or benchmark, in real time (%(default)s)",
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in _words(text))


def _shard(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    return int(part), int(parts)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def _real_build(xen: str, variant: str) -> Artifacts:
    # Imported here: `lab list` and the unit tests need no builds.
    from schedlab.build import EDITED, Layout, artifacts, edited, worktree

    source, _, config = variant.partition("-")
    if source == EDITED:
        layout = Layout.from_environment()
        return edited(layout, xen, worktree.snapshot(layout, xen), config or "release")
    built: Artifacts = artifacts(xen, source, config or "release")
    return built


def _lab(options: argparse.Namespace, build: Builder, cold: bool) -> Lab:
    built: dict[str, Artifacts] = {}
    lock = threading.Lock()

    def once(name: str) -> Artifacts:
        # Dims.variant(): the base is named where it is not the usual one.
        base, _, variant = name.rpartition("/")
        with lock:
            if name not in built:
                built[name] = build(base or options.xen or DEFAULT_BASE, variant)
            return built[name]

    folder = build_folder()
    return Lab(
        store=Store(folder / "store"),
        build=once,
        logs=folder / "logs",
        cold=cold,
        watchdog_s=options.watchdog,
    )


def _run(options: argparse.Namespace, build: Builder) -> int:
    what = scenario.load(scenario.find(options.scenario, SCENARIOS))
    what = scenario.override(
        what,
        schedulers=options.scheduler,
        pcpus=options.pcpus,
        shift=options.shift,
        trace=options.trace,
        seeds_=options.seed,
        base=options.xen,
    )
    if options.case is not None:
        what = scenario.only(what, options.case)
    else:
        what = scenario.within(what, options.tier)
    lab = replace(_lab(options, build, options.cold), cache=not options.no_cache)
    accelerator = _accelerator(options, lab, options.variant)
    lab = _accelerated(lab, accelerator)
    measure: dev.Measure = _sampled(options.runs) if lab.accel == qemu.KVM else _measure
    with_stock = options.variant != "stock" and not options.no_reference
    with_stock = with_stock and any(p.show and not p.grouped for p in what.phases)
    started = time.time()
    variants = (options.variant, "stock") if with_stock else (options.variant,)
    for name in sorted({dims.variant(v) for v in variants for dims in what.matrix()}):
        lab.build(name)
        if lab.accel == qemu.TCG:
            run.calibrate(lab, name, CALIBRATION)
    if dry_run():
        measure(lab, what, options.variant, with_stock, options.out / "RUN", 1)
        return 0
    with report.new_run(options.out, what.name) as folder:
        cases = measure(lab, what, options.variant, with_stock, folder, options.jobs)
        verdict = worst(case.judgement.verdict for case, _ in cases)
        final = report.final_name(folder)
        (folder / "scenario.toml").write_text(what.text)
        context = {**_context(lab, options, what, started), **accelerator}
        if lab.accel == qemu.KVM:
            context["runs"] = options.runs
        found = report.result(cases, context, verdict)
        report.write_json(folder / report.RESULT_FILE, found)
        pictures = [timeline_plot.of_case(case) for case, _ in cases]
        shown = [picture for picture in pictures if picture is not None]
        document.write(run_page.page(json.loads(json.dumps(found)), shown), folder)
        table = report.table(cases)
        (folder / "table.txt").write_text(table + "\n")
        troubles = "\n".join(report.failures(case for case, _ in cases))
    print(table)
    if troubles:
        print(troubles.replace(str(folder), str(final)))
    print(
        f"{what.name}: {verdict.word}, {len(cases)} cases, {time.time() - started:.1f} s: {final}"
    )
    return _EXIT[verdict]


def _accelerated(lab: Lab, accelerator: Mapping[str, str]) -> Lab:
    """The lab on it; in real time nothing is known from before."""
    if accelerator["accelerator"] != qemu.KVM:
        return lab
    return replace(lab, accel=qemu.KVM, cold=True, cache=False)


def _accelerator(options: argparse.Namespace, lab: Lab, variant: str) -> dict[str, str]:
    """What is to be used, as the results say it."""
    wanted = kvm.wants(options.accel)
    if wanted == qemu.TCG or dry_run():
        return {"accelerator": qemu.TCG}
    probed = kvm.probe(kvm.booter(lab, variant))
    if not probed.usable and os.environ.get(kvm.EMULATED):
        raise LabError(f"on the emulated host: {probed.found}", "real time was all it is for")
    used = qemu.KVM if probed.usable else qemu.TCG
    going = "" if probed.usable else "; going on with TCG, in virtual time"
    print(f"lab: kvm: {probed.found}{going}", file=sys.stderr, flush=True)
    said = {"accelerator": used, "kvm_probe": probed.found}
    if not probed.usable:
        return said
    emulated = os.environ.get(kvm.EMULATED)
    return {**said, "time": "real", **({"processor": emulated} if emulated else {})}


def _probe(options: argparse.Namespace, build: Builder) -> int:
    probed = kvm.probe(kvm.booter(_lab(options, build, cold=True), "patched"))
    print(probed.found)
    return 0 if probed.usable else 1


def _kvm_host(options: argparse.Namespace, build: Builder) -> int:
    # Imported here, as in _real_build().
    from schedlab import kvmhost
    from schedlab.build import Layout
    from schedlab.build.kvmhost import kvm_host

    inner = _parser().parse_args(options.words)
    if inner.action is not _probe and not hasattr(inner, "accel"):
        raise LabError(
            f"{inner.command} is not done in real time", "probe, run, bench, compare are"
        )
    # What is not there yet would be built on the emulated processor, and lost.
    base = getattr(inner, "xen", None) or DEFAULT_BASE
    built = [bench.with_bench(build(base, variant)) for variant in bench.VARIANTS]
    layout = Layout.from_environment()
    keep = Path(getattr(inner, "out", RESULTS)).resolve()
    words = [str(REPOSITORY / "harness" / "lab"), *options.words]
    if getattr(inner, "watchdog", None) == qemu.DEFAULT_WATCHDOG_S:
        words += ["--watchdog", f"{kvmhost.WATCHDOG_S:g}"]
    if hasattr(inner, "accel"):
        words += ["--accel", qemu.KVM]
    return kvmhost.run(kvm_host(layout), built[0].qemu, words, keep, layout.build / "logs")


def _context(
    lab: Lab, options: argparse.Namespace, what: Scenario, started: float
) -> dict[str, Any]:
    dims = next(what.matrix())
    qemu_build = lab.build(dims.variant(options.variant)).qemu
    return {
        "command": shlex.join(["lab", *sys.argv[1:]]),
        "scenario_file": what.path.name,
        "description": what.description,
        "time": "virtual",
        "started_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "wall_s": time.time() - started,
        "xen_base": options.xen or dims.base,
        "qemu": qemu_build.version,
        "python": platform.python_version(),
        "host": f"{platform.system()} {platform.release()} {platform.machine()}",
        "start": "cold" if lab.cold else "checkpoint",
    }


def _measure(
    lab: Lab, what: Scenario, variant: str, with_stock: bool, folder: Path, jobs: int
) -> list[tuple[Case, Case | None]]:
    """All cells of the matrix, ``jobs`` at once; an error in one stops them all."""
    cells = list(what.matrix())

    def one(dims: Dims) -> tuple[Case, Case | None]:
        stock = None
        if with_stock:
            stock = run.reference(lab, what, dims, folder / f"{dims.name()}-stock")
        case = run.measure(lab, what, dims, variant, folder / f"{dims.name()}-{variant}")
        return case, stock

    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        futures: list[Future[tuple[Case, Case | None]]] = [pool.submit(one, c) for c in cells]
        pending = set(futures)
        try:
            while pending:
                done, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in done:
                    case, _ = future.result()
                    if not dry_run():
                        ready = len(futures) - len(pending)
                        took = "known" if case.cached else f"{case.outcome.wall_s:.1f} s"
                        print(
                            f"  {case.dims.name()} … {case.judgement.verdict.word}, "
                            f"{took} ({ready}/{len(futures)})",
                            file=sys.stderr,
                            flush=True,
                        )
        except BaseException:
            # The pool's end waits for its threads: they must see this and let go of their QEMUs.
            lab.cancel.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def _sampled(runs: int) -> dev.Measure:
    """The same in real time: so many runs of each cell, one machine at a time."""

    def measure(
        lab: Lab, what: Scenario, variant: str, with_stock: bool, folder: Path, jobs: int
    ) -> list[tuple[Case, Case | None]]:
        return kvm.measure_all(lab, what, variant, with_stock, folder, runs)

    return measure


def _calibrate(options: argparse.Namespace, build: Builder) -> int:
    lab = _lab(options, build, cold=False)
    folder = run.calibrate(lab, options.variant, CALIBRATION)
    if not dry_run():
        print(f"calibration of {options.variant} Xen {options.xen}: pass: {folder}")
    return 0


def _overhead(options: argparse.Namespace, build: Builder) -> int:
    return overhead.main(options, _lab(options, build, cold=False), SCENARIOS)


def _compare(options: argparse.Namespace, build: Builder) -> int:
    def lab(side: sides.Side) -> Lab:
        def booted(base: str, variant: str) -> Artifacts:
            built = build(base, variant)
            return built if side.revision is None else _of_revision(base, side, built)

        own = argparse.Namespace(**{**vars(options), "xen": side.base or options.xen})
        return replace(_lab(own, booted, options.cold), xen_options=side.xen_options)

    both = sides.parse(options.a, VARIANTS), sides.parse(options.b, VARIANTS)
    accelerator = _accelerator(options, _lab(options, build, cold=True), "patched")

    def accelerated(side: sides.Side) -> Lab:
        return _accelerated(lab(side), accelerator)

    return sides.main(options, both, accelerated, accelerator, SCENARIOS, CALIBRATION)


def _bench(options: argparse.Namespace, build: Builder) -> int:
    plain, lab = _lab(options, build, cold=False), _with_bench(options, build)
    accelerator = _accelerator(options, plain, "patched")
    return bench.main(options, _accelerated(lab, accelerator), plain, accelerator)


def _headline(options: argparse.Namespace, build: Builder) -> int:
    return headline.main(options, _lab(options, build, cold=False), CALIBRATION)


def _with_bench(options: argparse.Namespace, build: Builder) -> Lab:
    return _lab(options, lambda xen, variant: bench.with_bench(build(xen, variant)), cold=False)


def _of_revision(base: str, side: sides.Side, built: Artifacts) -> Artifacts:
    from schedlab.build import Artifacts as RealArtifacts
    from schedlab.build import Layout, revision

    assert isinstance(built, RealArtifacts) and side.revision is not None
    source, _, config = side.variant.partition("-")
    layout = Layout.from_environment()
    found: Artifacts = revision.hypervisor(
        layout, base, source, config or "release", side.revision, built
    )
    return found


def _dev(options: argparse.Namespace, build: Builder) -> int:
    lab = _lab(options, build, cold=False)
    return dev.main(options, lab, SCENARIOS, CALIBRATION, _measure)


def _debug(options: argparse.Namespace, build: Builder) -> int:
    def source() -> Path:
        from schedlab.build import Layout, xen

        layout = Layout.from_environment()
        if options.variant == "edited":
            return layout.xen_tree(options.xen) / "xen"
        # Another's build may have been taken from the store: then its source is not there yet.
        return xen.source_tree(layout, options.xen, options.variant.partition("-")[0]) / "xen"

    lab = _lab(options, build, cold=False)
    return debug.main(options, lab, SCENARIOS, build_folder() / "gdb", source)


def _mutants(options: argparse.Namespace, build: Builder) -> int:
    return mutants.main(options, _lab(options, build, cold=True), MUTANTS, SCENARIOS)


def _report(options: argparse.Namespace, build: Builder) -> int:
    if options.picture:
        print(index.picture(options.run or options.out / "reference"))
    elif options.run is not None:
        print(index.render(options.run))
    else:
        print(index.index(options.out))
    return 0


def _accept(options: argparse.Namespace, build: Builder) -> int:
    lab = replace(_lab(options, build, cold=False), cache=not options.no_cache)
    return accept.main(options, lab, SCENARIOS, GOLDEN)


def _bless(options: argparse.Namespace, build: Builder) -> int:
    lab = replace(_lab(options, build, cold=False), cache=not options.no_cache)
    return accept.bless(options, lab, SCENARIOS, GOLDEN)


def _shell(options: argparse.Namespace, build: Builder) -> int:
    # Imported here, as in _real_build().
    from schedlab.build import artifacts, with_toolstack

    source, _, config = options.variant.partition("-")
    built = with_toolstack(artifacts(options.xen, source, config or "release"), options.xen)
    machine = toolstack.machine(options.scheduler, options.pcpus)
    return toolstack.shell(built, machine, build_folder() / "trees" / "shell")


def _list(options: argparse.Namespace, build: Builder) -> int:
    paths = sorted(SCENARIOS.glob("*.toml"))
    width = max((len(path.stem) for path in paths), default=0)
    total = dict.fromkeys(TIERS, 0)
    print(f"{'scenario':<{width}}  {'  '.join(TIERS)}  what it shows")
    for path in paths:
        what = scenario.load(path)
        counts = {tier: len(list(what.matrix(tier))) for tier in TIERS}
        total = {tier: total[tier] + counts[tier] for tier in TIERS}
        columns = "  ".join(f"{counts[tier]:>{len(tier)}}" for tier in TIERS)
        print(f"{path.stem:<{width}}  {columns}  {what.description}")
    columns = "  ".join(f"{total[tier]:>{len(tier)}}" for tier in TIERS)
    print(f"{'cases':<{width}}  {columns}")
    return 0


def _clean(options: argparse.Namespace, build: Builder) -> int:
    store = Store(build_folder() / "store")
    doomed = [store.root / step for step in _STEPS if (store.root / step).exists()]
    removed: list[Path] = []
    if dry_run():
        print(shlex.join(["rm", "-rf", *(str(path) for path in doomed)]))
        return 0
    if store.root.exists():
        removed += store.clean_temporary()
    for folder in doomed:
        for entry in sorted(folder.iterdir()):
            # What another lab is making now is its own.
            if entry.is_dir() and not entry.name.startswith("."):
                shutil.rmtree(entry, ignore_errors=True)
                removed.append(entry)
    removed += report.clean_leftovers(options.out)
    for path in removed:
        print(f"removed {path}")
    return 0
