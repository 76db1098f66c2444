# SPDX-License-Identifier: GPL-2.0-only
"""Comparisons: pairing, differences, what is missing or twice; sides; the command, faked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from schedlab import cli, compare, sides, stats
from schedlab.core.errors import LabError
from tests.fakes import FakeArtifacts
from tests.test_run import SMALL

Build = Callable[[str, str], FakeArtifacts]
DIMS: dict[str, Any] = {
    **{"scheduler": "credit2", "pcpus": 1, "topology": "cores", "shift": 5, "seed": 1},
    **{"kind": "pv", "vary": [], "variant": "patched"},
}


def guest(late_ns: int, wakes: int, slices: int) -> dict[str, int]:
    """One vCPU's view."""
    return {
        "late_ns": late_ns,
        "wakes": wakes,
        "slices": slices,
        "longest_late_ns": 7_000,
    }


def case(share: float = 10.0, worst: float = 1.0, **changes: Any) -> dict[str, Any]:
    """A case of one phase, as result.json has it."""
    row = {
        **{"phase": "one", "domains": ["m", "n"], "cap_percent": 10, "share": share},
        **{"error": (share - 10) * 10, "worst_window": worst, "split": [49.0, 51.0]},
        **{"windows": [share], "grouped": True, "verdict": "pass"},
    }
    edges = [
        {
            "label": f"one/{k}",
            "t_ns": k * 10**9,
            "groups": [{"master": "m"}],
            "domains": {n: {"guest": [guest(k * 40_000, k * 4, k * 50)]} for n in ("m", "n")},
        }
        for k in (0, 1)
    ]
    made = {"dims": DIMS, "verdict": "pass", "rows": [row], "series": edges, "context": {}}
    made.update(changes)
    return made


def rows(
    a: list[dict[str, Any]], b: list[dict[str, Any]], real_time: bool = False
) -> dict[str, compare.Row]:
    """The comparison's rows by metric; of the phase's domains together or the first."""
    found = [
        [v for c in side for v in compare.values("s", c, real_time=real_time)] for side in (a, b)
    ]
    return {
        row.key.metric: row
        for row in reversed(compare.compare(found[0], found[1], real_time=real_time))
    }


def test_what_is_compared() -> None:
    """Share, errors, split, wake-ups, timeslices: each from the right figures."""
    found = rows([case()], [case()])
    assert {row.status for row in found.values()} == {compare.SAME}
    assert found["share"].a == (10.0,) and found["worst"].a == (1.0,)
    assert found["uneven"].a == (2.0,)
    assert found["late"].a == (10.0,) and found["latest"].a == (7.0,)
    assert found["slices"].a == (50.0,)
    assert not any(row.regression for row in found.values())


def test_a_difference_is_a_difference() -> None:
    """Exact in virtual time; worse only beyond both thresholds, and either way round."""
    found = rows([case(worst=1.0)], [case(worst=1.4)])
    assert found["worst"].status == compare.DIFFERS
    assert found["worst"].difference == pytest.approx(0.4)
    assert found["worst"].relative == pytest.approx(0.4)
    assert rows([case(worst=1.0)], [case(worst=-1.6)])["worst"].status == compare.WORSE
    assert rows([case(worst=1.6)], [case(worst=1.0)])["worst"].status == compare.BETTER
    # Beyond the floor of 0.5, within the tenth of A.
    assert rows([case(worst=20.0)], [case(worst=21.0)])["worst"].status == compare.DIFFERS
    # Share has no better: it is never a regression.
    assert rows([case(share=10)], [case(share=90)])["share"].status == compare.DIFFERS


def test_missing_and_duplicated_are_rows() -> None:
    """A case on one side only, and one that is there twice."""
    two = {**DIMS, "pcpus": 2}
    found = [[v for c in s for v in compare.values("s", c)] for s in ([case()], [case(dims=two)])]
    both = compare.compare(*found)
    assert {row.status for row in both} == {compare.ONLY_A, compare.ONLY_B}
    assert len(both) == len(found[0]) + len(found[1])
    assert all(row.regression == (row.status == compare.ONLY_A) for row in both)
    twice = rows([case()], [case(), case()])
    assert {row.status for row in twice.values()} == {compare.TWICE}
    assert all(row.regression for row in twice.values())


def test_a_crash_is_a_regression() -> None:
    """A case without rows has its verdict; what it had on A is missing."""
    crashed = case(rows=[], verdict="crash")
    found = [[v for v in compare.values("s", c)] for c in (case(), crashed)]
    both = compare.compare(*found)
    assert [row.key.phase for row in both if row.status == compare.ONLY_B] == [""]
    assert sum(row.regression for row in both) == len(found[0])


def test_a_group_on_one_side() -> None:
    """Stock has no groups: the figures are shown, and not judged."""
    alone = case(share=90.0)
    for edge in alone["series"]:
        edge["groups"] = []
    found = rows([alone], [case()])
    assert found["share"].status == compare.UNLIKE and found["share"].difference == -80.0
    assert not found["error"].regression


def test_what_a_side_names_is_no_dimension() -> None:
    """Schedulers are compared by leaving the scheduler out of the key; what varies is one."""
    credit = case(dims={**DIMS, "scheduler": "credit", "vary": [["cap", 5]]})
    with_it = compare.dimensions(credit)
    assert dict(with_it)["cap"] == "5" and dict(with_it)["scheduler"] == "credit"
    assert "scheduler" not in dict(compare.dimensions(credit, ["scheduler"]))
    assert compare.short(with_it) == "cap 5 1p credit"


def test_real_time() -> None:
    """Runs of one thing: too few, chance, and a true difference."""
    few = rows([case()] * 3, [case(worst=5.0)] * 3, real_time=True)
    assert few["worst"].status == compare.TOO_FEW
    noisy = [case(worst=1.0 + k % 5) for k in range(10)]
    assert rows(noisy, noisy[::-1], real_time=True)["worst"].status == compare.SAME
    slow = [case(worst=9.0 + k % 5) for k in range(10)]
    found = rows(noisy, slow, real_time=True)["worst"]
    assert found.status == compare.WORSE and found.p is not None and found.p < 0.01


def test_broken_runs_in_real_time() -> None:
    """Two of twelve may be chance, all of them are not; what is left is judged."""
    broken = case(rows=[], verdict="crash")

    def whole(count: int) -> dict[str, compare.Row]:
        b = [broken] * count + [case()] * (12 - count)
        found = [
            [v for c in side for v in compare.values("s", c, real_time=True)]
            for side in ([case()] * 12, b)
        ]
        return {r.key.phase: r for r in compare.compare(*found, real_time=True)[::-1]}

    assert (whole(2)[""].status, whole(2)["one"].status) == (compare.SAME, compare.SAME)
    assert whole(3)["one"].status == compare.TOO_FEW
    assert (whole(12)[""].status, whole(12)["one"].status) == (compare.WORSE, compare.ONLY_A)


def test_permutation_test() -> None:
    """Exact for few values; never 0 by sampling."""
    assert stats.permutation_test([1.0, 2.0], [3.0, 4.0]) == pytest.approx(2 / 6)
    assert stats.permutation_test([1.0, 1.0], [1.0, 1.0]) == 1.0
    far = stats.permutation_test([0.0] * 20, [1.0] * 20)
    assert 0 < far < 0.001
    assert stats.quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5
    assert stats.quantile([5.0], 0.95) == 5.0


def test_sides() -> None:
    """Words in any order; one of a kind; the culprit is named."""
    side = sides.parse("4.20+stock+credit+shift=3+xen:a=1+xen:b@HEAD~2", cli.VARIANTS)
    assert (side.variant, side.base, side.revision) == ("stock", "4.20", "HEAD~2")
    assert side.dims == {"base": "4.20", "scheduler": "credit", "shift": 3}
    assert side.xen_options == "a=1 b"
    assert sides.parse("credit2", cli.VARIANTS).variant == "patched"
    with pytest.raises(LabError, match="'stok' is no side"):
        sides.parse("stok", cli.VARIANTS)
    with pytest.raises(LabError, match="two of one kind"):
        sides.parse("stock+patched", cli.VARIANTS)


@pytest.fixture
def small(tmp_path: Path, own_build_folder: Path) -> Path:
    """A scenario file outside the repository."""
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def test_the_command(
    tmp_path: Path, fake_build: Build, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both sides run, everything is paired, and what was kept can be compared again."""
    out = tmp_path / "results"

    def call(a: str, b: str, *words: str) -> int:
        words = (*words, "--out", str(out), "--watchdog", "2", "--jobs", "1")
        return cli.main(["compare", str(small), "--a", a, "--b", b, *words], fake_build)

    assert call("stock", "patched", "--fail-on-regression") == 0
    (run,) = out.iterdir()
    found = json.loads((run / "compare.json").read_text())
    assert found["regressions"] == 0 and found["context"]["time"] == "virtual"
    assert set(found["counts"]) >= {compare.SAME, compare.UNLIKE}
    assert (run / "a" / "small-credit2-1p" / "records.jsonl").is_file()
    capsys.readouterr()
    # One side again, from what is there; the other lacks a machine.
    assert call(str(run / "b" / "small.json"), "patched", "--pcpus", "1") == 0
    assert "only in A" in capsys.readouterr().out
    status = call(str(run / "b" / "small.json"), "patched", "--pcpus", "1", "--fail-on-regression")
    assert status == 1
    assert call("patched", "bad word") == 2


def test_the_command_in_real_time(
    tmp_path: Path,
    fake_build: Build,
    small: Path,
    device: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ten runs of each side, in turn; statistics; a side can be taken from there; no mixtures."""
    out = tmp_path / "results"

    def call(a: str, *words: str) -> int:
        words = (*words, "--out", str(out), "--watchdog", "2", "--pcpus", "1")
        return cli.main(["compare", str(small), "--a", a, "--b", "patched", *words], fake_build)

    assert call("stock", "--accel", "kvm", "--runs", "10") == 0
    said = capsys.readouterr().err
    turns = [line.split(" … ")[0].split()[-1] for line in said.splitlines() if "/20)" in line]
    assert turns == [name for name, _ in stats.turns("AB", 10)]
    (run,) = out.iterdir()
    found = json.loads((run / "compare.json").read_text())
    assert (found["context"]["time"], found["context"]["accelerator"]) == ("real", "kvm")
    assert found["context"]["runs"] == 10
    sizes = {row["status"]: (len(row["a"]), len(row["b"])) for row in found["rows"]}
    assert sizes.pop(compare.ONLY_B) == (0, 10) and set(sizes.values()) == {(10, 10)}
    assert set(found["counts"]) == {compare.SAME, compare.UNLIKE, compare.ONLY_B}
    assert {row["p"] for row in found["rows"] if row["status"] == compare.SAME} == {1.0}
    assert "permutation test" in (run / "report.html").read_text()
    for side, variant in (("a", "stock"), ("b", "patched")):
        assert len(list((run / side).glob("small-credit2-1p/*/records.jsonl"))) == 10, variant
        command = (run / side / "small-credit2-1p" / "01" / "command.sh").read_text()
        assert "-accel kvm" in command
    # What is there, in real time, against virtual time: refused before anything is measured.
    assert call(str(run / "a" / "small.json")) == 2
    said = capsys.readouterr().err
    assert "compare like with like" in said and " … " not in said
    assert call(str(run / "a" / "small.json"), "--accel", "kvm", "--runs", "10") == 0
    assert call("stock", "--accel", "kvm", "--runs", "9") == 2
    assert len(list(out.iterdir())) == 2


def test_schedulers_pair(tmp_path: Path, fake_build: Build, small: Path) -> None:
    """Two schedulers: every row has a partner."""
    words = ["compare", str(small), "--a", "credit", "--b", "credit2", "--out", str(tmp_path / "r")]
    assert cli.main([*words, "--watchdog", "2", "--jobs", "1"], fake_build) == 0
    (run,) = (tmp_path / "r").iterdir()
    found = json.loads((run / "compare.json").read_text())
    assert set(found["counts"]) == {compare.SAME} and "scheduler" not in found["rows"][0]["dims"]
