# SPDX-License-Identifier: GPL-2.0-only
"""Real time without KVM: the probe with fakes, and judgement on made-up runs."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from schedlab import cli, kvm, qemu
from schedlab.oracle import Check, Judgement, Row, Verdict
from schedlab.qemu import Machine
from tests.fakes import FakeArtifacts
from tests.test_run import SMALL

Build = Callable[[str, str], FakeArtifacts]


def never() -> str:
    """Not to be booted."""
    raise AssertionError


def test_no_device(tmp_path: Path) -> None:
    """Nothing is booted where there is nothing to boot on, or where it may not be used."""
    found = kvm.probe(never, tmp_path / "kvm")
    assert not found.usable and found.found == f"there is no {tmp_path / 'kvm'}"
    found = kvm.probe(never, tmp_path)
    assert not found.usable and "cannot be opened: Is a directory" in found.found


def test_booting_decides(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that opens is not enough; and a processor that is none is said to be none."""
    assert kvm.probe(lambda: "", device).usable
    monkeypatch.setenv(kvm.EMULATED, "made of paper")
    assert kvm.probe(lambda: "", device).found.endswith("s, on a processor made of paper")
    found = kvm.probe(lambda: "it died", device)
    assert not found.usable and found.found.endswith("does not boot under it: it died")


def test_machine() -> None:
    """The host's processor and clock, and none of what makes virtual time; TCG's is as it was."""
    words = Machine("credit", 2, "cores", 5, accel=qemu.KVM).arguments()
    assert {"kvm", "sockets=1,cores=2", "2,sockets=1,cores=2"} & set(words)
    assert "-icount" not in words and "-netdev" not in words
    assert Machine("credit", 2, "cores", 5).arguments()[5:9] == [
        *("-accel", "tcg", "-icount", "shift=5,sleep=off")
    ]


def run(tmp_path: Path, build: Build, *words: str) -> tuple[int, dict[str, object]]:
    """lab run --accel kvm on one case: the exit status, and the result's context."""
    (tmp_path / "small.toml").write_text(SMALL)
    status = cli.main(
        [
            *("run", str(tmp_path / "small.toml"), "--pcpus", "1", "--accel", "kvm"),
            *("--runs", "10", "--watchdog", "5", "--out", str(tmp_path / "results"), *words),
        ],
        build,
    )
    results = list(tmp_path.glob("results/*/result.json"))
    return status, json.loads(results[0].read_text()) if results else {}


def test_sampled(
    tmp_path: Path,
    fake_build: Build,
    own_build_folder: Path,
    device: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where it boots: ten runs of each, in turn with stock, nothing cached, KVM named."""
    status, result = run(tmp_path, fake_build)
    assert status == 0
    assert "Xen boots under KVM" in capsys.readouterr().err
    context = result["context"]
    assert isinstance(context, dict) and context["accelerator"] == "kvm"
    assert context["time"] == "real"
    assert "boots under KVM" in context["kvm_probe"]
    for variant in ("patched", "stock"):
        assert len(list(tmp_path.glob(f"results/*/credit2-1p-{variant}/*/records.jsonl"))) == 10
    command = next(tmp_path.glob("results/*/credit2-1p-patched/01/command.sh")).read_text()
    assert "-accel kvm" in command and "-incoming" not in command
    assert not list(own_build_folder.glob("store/case/*"))
    (case,) = result["cases"]  # type: ignore[misc]
    assert case["context"]["million_instructions_per_s"] is None
    assert {"E1.cap", "E4.even", "E6.stock"} <= {check["clause"] for check in case["checks"]}


def test_sampled_and_bad(
    tmp_path: Path,
    fake_build: Build,
    own_build_folder: Path,
    device: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half of what is due, in every run, is a failure."""
    monkeypatch.setenv("FAKE", "half-share")
    status, result = run(tmp_path, fake_build, "--no-reference")
    assert status == 1 and result["verdict"] == "fail"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("kvm-emulation", "KVM internal error. Suberror: 1, emulation failure"),
        ("hang", "not at the controller after 1 s; Xen's last words: (XEN) all is well so far"),
        ("panic", "Panic on CPU 0"),
        ("exit", "QEMU exited with 7: fake: no such device"),
    ],
)
def test_refused(
    tmp_path: Path,
    fake_build: Build,
    own_build_folder: Path,
    device: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    said: str,
) -> None:
    """Each way in which it does not boot is told apart."""
    monkeypatch.setenv("FAKE", how)
    options = cli._parser().parse_args(["probe", "--watchdog", "5"])
    boot = kvm.booter(cli._lab(options, fake_build, cold=True), "patched", limit_s=1.0)
    found = kvm.probe(boot)
    assert not found.usable and said in found.found


def test_refused_goes_on(
    tmp_path: Path,
    fake_build: Build,
    own_build_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without KVM the same command runs in virtual time, and says so."""
    monkeypatch.setattr(kvm, "DEVICE", tmp_path / "none")
    status, result = run(tmp_path, fake_build)
    assert status == 0
    assert "there is no" in (said := capsys.readouterr().err) and "going on with TCG" in said
    context = result["context"]
    assert isinstance(context, dict) and context["accelerator"] == "tcg"
    assert "there is no" in context["kvm_probe"]


def test_refused_on_the_emulated_host(
    tmp_path: Path,
    fake_build: Build,
    own_build_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """There it does not go on: virtual time is to be had without it."""
    monkeypatch.setattr(kvm, "DEVICE", tmp_path / "none")
    monkeypatch.setenv(kvm.EMULATED, "made of paper")
    assert run(tmp_path, fake_build) == (2, {})
    assert "on the emulated host: there is no" in capsys.readouterr().err


def test_unknown(tmp_path: Path, fake_build: Build, own_build_folder: Path) -> None:
    """Neither tcg nor kvm; and too few runs."""
    assert run(tmp_path, fake_build, "--accel", "hvf")[0] == 2
    assert not (tmp_path / "results").exists()


# --- judgement of many runs ---


def check(measured: float | str, clause: str = "E1.cap", verdict: Verdict = Verdict.PASS) -> Check:
    """Of a cap of 10 % give or take 0.1."""
    expected = 10.0 if isinstance(measured, float) else "0"
    return Check(clause, "joined", "whole", ("a",), expected, measured, 0.1, "%", "why", verdict)


def row(share: float, grouped: bool = True) -> Row:
    """A phase."""
    phase = "joined" if grouped else "alone"
    return Row(phase, ("a",), 10, share, 0.1, 0.2, (share,), (share,), grouped, None)


def runs(*of: Sequence[Check]) -> list[Judgement]:
    """A judgement each."""
    return [Judgement(Verdict.PASS, "", (row(10.0),), tuple(checks)) for checks in of]


def shares(mean: float, deviation: float = 0.02, seed: int = 1) -> list[Judgement]:
    """Ten runs with that share."""
    draw = random.Random(seed)
    return runs(*([check(draw.gauss(mean, deviation))] for _ in range(10)))


@pytest.mark.parametrize(
    ("mean", "verdict"),
    [(10.0, Verdict.PASS), (10.3, Verdict.FAIL), (9.7, Verdict.FAIL), (10.1, Verdict.ERROR)],
)
def test_mean_against_tolerance(mean: float, verdict: Verdict) -> None:
    """Within, above, below, and on the edge, where neither is shown."""
    judged = kvm.combine(shares(mean, seed=4), [])
    assert judged.verdict == verdict, judged.reason
    assert judged.rows[0].verdict == verdict and judged.rows[0].share == 10.0


@pytest.mark.parametrize(
    ("clause", "mean", "verdict"),
    [
        ("E1.upper", 5.0, Verdict.PASS),
        ("E1.upper", 15.0, Verdict.FAIL),
        ("E1.lower", 15.0, Verdict.PASS),
        ("E1.lower", 5.0, Verdict.FAIL),
    ],
)
def test_one_side(clause: str, mean: float, verdict: Verdict) -> None:
    """An upper bound does not mind less, a lower one not more."""
    assert kvm.combine(runs(*[[check(mean, clause)]] * 10), []).verdict == verdict


def test_an_outlier_is_noise() -> None:
    """One window out of ten beyond the tolerance: the mean says what it says, not that window."""
    values = [10.0 + 0.001 * i for i in range(9)] + [10.15]
    assert kvm.combine(runs(*([check(value)] for value in values)), []).verdict == Verdict.PASS


def test_too_few_runs() -> None:
    """Nine perfect runs are no pass."""
    assert kvm.combine(shares(10.0)[:9], []).verdict == Verdict.ERROR


def test_words_have_no_noise() -> None:
    """A wrong errno in one run is wrong."""
    good, bad = check("0", "op"), check("EINVAL", "op", Verdict.FAIL)
    assert kvm.combine(runs(*[[good]] * 10), []).verdict == Verdict.PASS
    assert kvm.combine(runs(*[[good]] * 9, [bad]), []).verdict == Verdict.FAIL


def test_bounds_that_differ_by_side() -> None:
    """Where a run judges by two bounds, runs vote: all bad is a failure, some are undecided."""
    good, bad = check(1.0, "witness"), check(9.0, "witness", Verdict.FAIL)
    assert kvm.combine(runs(*[[good]] * 10), []).verdict == Verdict.PASS
    assert kvm.combine(runs(*[[bad]] * 10), []).verdict == Verdict.FAIL
    assert kvm.combine(runs(*[[good]] * 7, *[[bad]] * 3), []).verdict == Verdict.ERROR


def test_figures_in_words() -> None:
    """Checks whose text has a figure of the run's are the same check."""
    of = [[replace(check("so", "stats"), where=f"adds up to {i} ns")] for i in range(10)]
    judged = kvm.combine(runs(*of), [])
    assert judged.verdict == Verdict.PASS and len(judged.checks) == 1


def test_judged_in_some_runs_only() -> None:
    """A check that is missing somewhere is no pass."""
    judged = kvm.combine(runs(*[[check(10.0)]] * 9, []), [])
    assert judged.verdict == Verdict.ERROR and "9 of 10 runs" in judged.reason


def test_a_broken_run() -> None:
    """A crash in one run is a crash; nothing at all is one, too."""
    broken = Judgement(Verdict.CRASH, "Panic on CPU 0", (), ())
    judged = kvm.combine([*shares(10.0), broken], [])
    assert judged.verdict == Verdict.CRASH and "in 1 of 11 runs: Panic" in judged.reason
    assert kvm.combine([], []).verdict == Verdict.CRASH


@pytest.mark.parametrize(
    ("apart", "verdict"), [(0.0, Verdict.PASS), (2.0, Verdict.FAIL), (0.5, Verdict.ERROR)]
)
def test_against_stock(apart: float, verdict: Verdict) -> None:
    """A phase without groups: like stock's, unlike, and at the threshold."""
    draw = random.Random(2)

    def alone(mean: float) -> list[Judgement]:
        of = [row(draw.gauss(mean, 0.05), grouped=False) for _ in range(10)]
        return [Judgement(Verdict.PASS, "", (one,), ()) for one in of]

    stock = alone(10.0)
    away = apart + sum(one.rows[0].share for one in stock) / 10 - 10.0
    ours = alone(10.0)
    mean = sum(one.rows[0].share for one in ours) / 10
    moved = [
        replace(one, rows=(replace(one.rows[0], share=one.rows[0].share - mean + 10 + away),))
        for one in ours
    ]
    judged = kvm.combine(moved, stock)
    assert judged.verdict == verdict, judged.reason
    (found,) = judged.checks
    assert found.clause == "E6.stock" and found.phase == "alone"
