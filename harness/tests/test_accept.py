# SPDX-License-Identifier: GPL-2.0-only
"""The matrix on a fake QEMU: verdicts, JUnit, what is kept, the ledger, seeds, shards."""

from __future__ import annotations

import json
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest
from schedlab import accept, cli, junit
from schedlab.core.errors import LabError
from schedlab.oracle import Verdict
from tests.fakes import FakeArtifacts

Build = Callable[[str, str], FakeArtifacts]
HERE = Path(__file__).parent

ONE = """\
name = "one"
description = "a group of two"
[[matrix]]
tier = "smoke"
[[matrix]]
scheduler = ["credit2", "credit"]
pcpus = [1, 2]
[[matrix]]
tier = "full"
pcpus = [4]
base = ["4.17", "4.20"]
[[domain]]
name = "master"
cap = 10
[[domain]]
name = "second"
workload = "bursty"
guest = { period = "10ms", run = "2ms" }
[[phase]]
name = "joined"
duration = "2s"
do = [
    { op = "start", domain = "master" },
    { op = "start", domain = "second" },
    { op = "join", master = "master", member = "second" },
]
show = ["master", "second"]
expect = [{ clause = "E1.cap" }, { clause = "E4.even" }]
"""
TWO = ONE.replace('"one"', '"two"').replace('tier = "smoke"\n', "", 1)


@pytest.fixture
def folder(tmp_path: Path, own_build_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scenarios of our own, and their ledger's place."""
    scenarios = tmp_path / "scenarios"
    scenarios.mkdir()
    (scenarios / "one.toml").write_text(ONE)
    (scenarios / "two.toml").write_text(TWO)
    (scenarios / cli.CALIBRATION.name).write_text(cli.CALIBRATION.read_text())
    monkeypatch.setattr(cli, "SCENARIOS", scenarios)
    monkeypatch.setattr(cli, "GOLDEN", tmp_path / "golden.toml")
    return scenarios


def lab(tmp_path: Path, build: Build, *words: str) -> int:
    """The exit status of the lab with fake builds; results go below tmp_path."""
    return cli.main([*words, "--watchdog", "2", "--out", str(tmp_path / "results")], build)


def last_run(tmp_path: Path) -> Path:
    """The newest run."""
    return sorted((tmp_path / "results").iterdir())[-1]


def cases(run: Path) -> dict[str, str]:
    """Verdicts by name, as the results have them."""
    found = json.loads((run / "accept.json").read_text())["cases"]
    return {case["name"]: case["verdict"] for case in found}


def test_pass(
    tmp_path: Path, fake_build: Build, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All cells of the tier, a JUnit entry each, nothing kept of them, the last line counts."""
    out = tmp_path / "junit.xml"
    assert lab(tmp_path, fake_build, "accept", "--junit", str(out)) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1].startswith("8 passed, 0 failed in ")
    assert "[8/8, 0 s left]" in said.err
    run = last_run(tmp_path)
    assert {path.name for path in run.iterdir()} == {"accept.json", "summary.txt", "junit.xml"}
    assert set(cases(run)) == {
        f"{name}/{scheduler}-{pcpus}p"
        for name in ("one", "two")
        for scheduler in ("credit", "credit2")
        for pcpus in (1, 2)
    }
    entries = ET.parse(out).getroot().findall("testsuite/testcase")
    assert {(e.get("classname"), e.get("name")) for e in entries} >= {("accept.one", "credit2-1p")}
    assert len(entries) == 8 and "a group of two" in str(entries[0].findtext("system-out"))
    assert "nearest to what is allowed" in said.out and "farthest from the cap" in said.out


def test_tiers_and_bases(tmp_path: Path, fake_build: Build, folder: Path) -> None:
    """A larger tier has what a smaller one has; another base is full's, or asked for."""

    def names(**words: str | None) -> list[str]:
        items = accept.collect(folder, ["one"], **words)  # type: ignore[arg-type]
        return [item.dims.name() for item in items]

    assert names(tier="smoke") == ["credit2-1p"]
    assert names(tier="test") == ["credit2-1p", "credit2-2p", "credit-1p", "credit-2p"]
    assert names(tier="full")[4:] == ["credit2-4p", "credit2-4p-xen4.20"]
    assert names(tier="full", base="4.20") == ["credit2-4p-xen4.20"]
    with pytest.raises(LabError, match="no case in tier test for Xen 4.20"):
        names(tier="test", base="4.20")


def test_fail_is_kept_and_done_again(
    tmp_path: Path,
    fake_build: Build,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A failure: status 1, all it left in one folder, and a command that fails in the same way."""
    assert lab(tmp_path, fake_build, "accept") == 0
    monkeypatch.setenv("FAKE", "half-share")
    monkeypatch.setenv("FAKE_XEN", "changed")
    monkeypatch.setattr(cli, "CALIBRATION", cli.SCENARIOS / "calibration.toml")
    wrong = (folder / "calibration.toml").read_text().replace("share = 25", "share = 12.5")
    wrong = wrong.replace("share = 100", "share = 50")
    (folder / "calibration.toml").write_text(wrong)
    capsys.readouterr()
    assert lab(tmp_path, fake_build, "accept", "one", "--seeds", "2") == 1
    said = capsys.readouterr().out
    assert "fail: one/credit2-2p-seed2: E1.cap in joined, whole: master + second got 5.0" in said
    assert said.splitlines()[-1].startswith("0 passed, 8 failed")
    run = last_run(tmp_path)
    left = run / "one" / "credit2-2p-seed2"
    assert {path.name for path in left.iterdir()} == {
        *("scenario.toml", "scenario.json", "records.jsonl", "boot.jsonl", "serial.log"),
        *("qemu.log", "command.sh", "again.sh", "reason.txt"),
    }
    command = shlex.split((left / "again.sh").read_text().splitlines()[1])
    assert f"again: {shlex.join(command)}" in said
    assert command[:3] == ["harness/lab", "run", "one"] and "--seed" in command
    assert cli.main([*command[1:], "--out", str(tmp_path / "again")], fake_build) == 1
    (again,) = (tmp_path / "again").iterdir()
    place = Path("credit2-2p-seed2-patched")
    for file in ("scenario.json", "records.jsonl"):
        assert (again / place / file).read_bytes() == (left / file).read_bytes()
    failure = ET.parse(run / "junit.xml").getroot().find("testsuite/testcase/failure")
    assert failure is not None and "E1.cap in joined" in str(failure.get("message"))
    assert shlex.join(command[:3]) in str(failure.text) and "left: " in str(failure.text)


def test_crash_and_error(
    tmp_path: Path,
    fake_build: Build,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What could not be run is status 2, and the others go on."""
    assert cli.main(["calibrate"], fake_build) == 0
    monkeypatch.setenv("FAKE", "boot-panic")
    assert lab(tmp_path, fake_build, "accept", "--tier", "smoke") == 2
    assert cases(last_run(tmp_path)) == {"one/credit2-1p": "error"}
    assert "did not boot to the controller: Panic on CPU 0" in capsys.readouterr().out
    monkeypatch.setenv("FAKE", "panic")
    assert lab(tmp_path, fake_build, "accept", "--tier", "smoke") == 2
    assert cases(last_run(tmp_path)) == {"one/credit2-1p": "crash"}
    error = ET.parse(last_run(tmp_path) / "junit.xml").getroot().find("testsuite/testcase/error")
    assert error is not None and error.get("type") == "crash"
    serial = last_run(tmp_path) / "one" / "credit2-1p" / "serial.log"
    assert "Panic on CPU 0" in serial.read_text()


def test_other_version_is_an_error(tmp_path: Path, fake_build: Build, folder: Path) -> None:
    """What was booted is what the cell says."""
    words = ("accept", "one", "--tier", "full", "--xen", "4.20")
    assert lab(tmp_path, fake_build, *words) == 2
    found = json.loads((last_run(tmp_path) / "accept.json").read_text())["cases"]
    assert [case["reason"] for case in found] == ["Xen 4.17.5 was booted, not 4.20"]


def test_ledger(
    tmp_path: Path,
    fake_build: Build,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A schedule that changed fails its case with a diff, until it is blessed."""
    golden = tmp_path / "golden.toml"
    assert lab(tmp_path, fake_build, "accept") == 0
    assert "ledger: is not there" in capsys.readouterr().out
    assert lab(tmp_path, fake_build, "bless") == 0
    assert '+[case."one/credit2-1p"]' in capsys.readouterr().out
    assert '"joined master" = [50000000, 50000000]' in golden.read_text()
    assert '"joined group of master" = [100000000, 100000000]' in golden.read_text()
    assert lab(tmp_path, fake_build, "bless") == 0
    assert "nothing has changed" in capsys.readouterr().out
    assert lab(tmp_path, fake_build, "accept") == 0
    assert "ledger: 1 of 1 cases are as they were accepted" in capsys.readouterr().out

    # Another series that schedules otherwise, which the oracle does not mind.
    monkeypatch.setenv("FAKE", "a-little-more")
    monkeypatch.setenv("FAKE_XEN", "changed")
    monkeypatch.setenv("FAKE_SERIES", "6")
    assert lab(tmp_path, fake_build, "accept") == 1
    said = capsys.readouterr().out
    assert (
        "fail: one/credit2-1p: not what the ledger has, with other builds of: series, xen" in said
    )
    assert "- joined master = [50000000, 50000000]" in said
    assert "+ joined master = [50000007, 50000007]" in said
    assert said.splitlines()[-1].startswith("7 passed, 1 failed")
    left = last_run(tmp_path) / "one" / "credit2-1p"
    assert "records.jsonl" in {path.name for path in left.iterdir()}

    # Where other tools made the builds it does not judge, and says so.
    monkeypatch.setenv("FAKE_TOOLCHAIN", "gcc 2")
    assert lab(tmp_path, fake_build, "accept") == 0
    assert "ledger: does not judge here (other toolchain than" in capsys.readouterr().out
    monkeypatch.delenv("FAKE_TOOLCHAIN")

    assert lab(tmp_path, fake_build, "bless") == 0
    said = capsys.readouterr().out
    assert '-"joined master" = [50000000, 50000000]' in said and '-series = "5"' in said
    assert lab(tmp_path, fake_build, "accept") == 0


def test_ledger_same_builds(
    tmp_path: Path,
    fake_build: Build,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same builds with another result: that is not the subject's doing."""
    assert lab(tmp_path, fake_build, "bless") == 0
    cli.main(["clean"])
    monkeypatch.setenv("FAKE", "a-little-more")
    assert lab(tmp_path, fake_build, "accept", "--tier", "smoke") == 1
    assert "though all builds are the same" in capsys.readouterr().out


def test_ledger_of_cases_that_are_gone(
    tmp_path: Path, fake_build: Build, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A case that the ledger has and nobody runs any more, or a new one, is a difference too."""
    (folder / "two.toml").write_text(ONE.replace('"one"', '"two"'))
    assert lab(tmp_path, fake_build, "bless") == 0
    assert lab(tmp_path, fake_build, "accept", "one") == 0  # not the whole tier
    (folder / "two.toml").write_text(TWO)
    capsys.readouterr()
    assert lab(tmp_path, fake_build, "accept") == 1
    assert "cases that are gone: two/credit2-1p" in capsys.readouterr().out
    (folder / "three.toml").write_text(ONE.replace('"one"', '"three"'))
    (folder / "two.toml").write_text(ONE.replace('"one"', '"two"'))
    assert lab(tmp_path, fake_build, "accept") == 1
    assert "fail: three/credit2-1p: not what the ledger has" in capsys.readouterr().out


def test_bless_refuses(
    tmp_path: Path,
    fake_build: Build,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What does not pass is not blessed, and the ledger stays as it is."""
    assert lab(tmp_path, fake_build, "bless") == 0
    before = (tmp_path / "golden.toml").read_bytes()
    cli.main(["clean"])
    assert cli.main(["calibrate"], fake_build) == 0
    monkeypatch.setenv("FAKE", "half-share")
    assert lab(tmp_path, fake_build, "bless") == 2
    assert "nothing is blessed" in capsys.readouterr().err
    assert (tmp_path / "golden.toml").read_bytes() == before
    (tmp_path / "golden.toml").write_text("colour = 1\n")
    monkeypatch.delenv("FAKE")
    assert lab(tmp_path, fake_build, "accept") == 2
    assert "golden.toml is no ledger" in capsys.readouterr().err


def test_seeds(
    tmp_path: Path, fake_build: Build, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each case with each seed, its own scenario each; least, median and worst are told."""
    assert lab(tmp_path, fake_build, "accept", "--tier", "smoke", "--seeds", "3") == 0
    said = capsys.readouterr().out
    names = ["one/credit2-1p", "one/credit2-1p-seed2", "one/credit2-1p-seed3"]
    assert list(cases(last_run(tmp_path))) == names
    used = []
    for case in json.loads((last_run(tmp_path) / "accept.json").read_text())["cases"]:
        figures = [c for c in case["checks"] if c["clause"] != "witness"]
        used.append(max(abs(c["measured"] - c["expected"]) / c["tolerance"] for c in figures))
    title = said.splitlines().index(next(x for x in said.splitlines() if "what seeds use" in x))
    line = said.splitlines()[title + 1].split()
    worst = used.index(max(used)) + 1
    shown = [f"{100 * one:.0f}" for one in (min(used), median(used), max(used))]
    assert line == ["one/credit2-1p", *shown, str(worst)]


def test_shards(folder: Path) -> None:
    """Together they are all, each is another's, and none is much longer than the others."""
    items = accept.collect(cli.REPOSITORY / "harness" / "scenarios", [], tier="full")
    parts = [accept.shard(items, part, 5) for part in range(1, 6)]
    assert sorted(item.name for part in parts for item in part) == sorted(i.name for i in items)
    loads = [sum(item.cost_s for item in part) for part in parts]
    assert max(loads) < 1.05 * min(loads)
    for part, count in ((0, 5), (6, 5)):
        with pytest.raises(LabError, match=f"no shard {part} of {count}"):
            accept.shard(items, part, count)


def test_dry(
    tmp_path: Path,
    fake_build: Build,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """DRY=1 prints each command and leaves nothing."""
    monkeypatch.setenv("DRY", "1")
    assert lab(tmp_path, fake_build, "accept", "--tier", "smoke", "--jobs", "1") == 0
    assert "# one on patched credit2-1p" in capsys.readouterr().out
    assert not list((tmp_path / "results").glob("[!.]*"))


def test_junit_of_others(
    tmp_path: Path, fake_build: Build, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other tests' entries stand in the file, and count; a file that is none is an error."""
    other = tmp_path / "pytest.xml"
    other.write_text(
        '<testsuites><testsuite name="pytest" tests="7" failures="1" errors="1" skipped="2">'
        '<testcase name="x"/></testsuite></testsuites>'
    )
    words = ("accept", "--tier", "smoke", "--junit", str(tmp_path / "all.xml"), "--add-junit")
    assert lab(tmp_path, fake_build, *words, str(other)) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("4 passed, 2 failed, 2 skipped in")
    suites = ET.parse(tmp_path / "all.xml").getroot().findall("testsuite")
    assert [suite.get("name") for suite in suites] == ["pytest", "accept"]
    assert lab(tmp_path, fake_build, *words, str(tmp_path / "none.xml")) == 2
    assert "none.xml is no JUnit file" in capsys.readouterr().err


def test_junit_text_is_xml(tmp_path: Path) -> None:
    """Whatever a serial log says, the file can be parsed."""
    entry = junit.Entry("g", "n", Verdict.FAIL, "a \x1b[1m <b> & \x00", "text\x08", 1.0)
    counts = junit.write(tmp_path / "x.xml", "s", [entry])
    failure = ET.parse(tmp_path / "x.xml").getroot().find("testsuite/testcase/failure")
    assert failure is not None and "<b> &" in str(failure.get("message"))
    assert counts.line() == "0 passed, 1 failed"
