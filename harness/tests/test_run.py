# SPDX-License-Identifier: GPL-2.0-only
"""The whole path on a fake QEMU: results, watchdog, crashes, refusals, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from schedlab import cli, qemu
from tests.fakes import HARNESS, FakeArtifacts

Build = Callable[[str, str], FakeArtifacts]

SMALL = """\
name = "small"
[matrix]
scheduler = ["credit2"]
pcpus = [1, 2]
[[domain]]
name = "master"
cap = 10
[[domain]]
name = "second"
[[phase]]
name = "alone"
duration = "1s"
do = [{ op = "start", domain = "master" }]
show = ["master"]
[[phase]]
name = "joined"
duration = "2s"
do = [{ op = "start", domain = "second" }, { op = "join", master = "master", member = "second" }]
show = ["master", "second"]
expect = [{ clause = "E1.cap" }, { clause = "E4.even" }]
"""


@pytest.fixture
def small(tmp_path: Path, own_build_folder: Path) -> Path:
    """A scenario file outside the repository."""
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def lab(tmp_path: Path, build: Build, *words: str) -> int:
    """The exit status of the lab with fake builds; results go below tmp_path."""
    return cli.main([*words, "--watchdog", "2"], build)


def run(tmp_path: Path, build: Build, scenario: Path, *words: str) -> int:
    """The exit status of lab run."""
    return lab(tmp_path, build, "run", str(scenario), "--out", str(tmp_path / "results"), *words)


def only_run(tmp_path: Path) -> Path:
    """The one run there is; nothing half-made beside it."""
    runs = list((tmp_path / "results").iterdir())
    assert len(runs) == 1, runs
    return runs[0]


def nothing_half_made(tmp_path: Path) -> None:
    """No temporary folder in results and store."""
    left = [*tmp_path.glob("results/.tmp-*"), *tmp_path.glob("build/store/*/.*.tmp")]
    assert left == []


def test_pass(
    tmp_path: Path, fake_build: Build, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All passed: status 0, a table, and a result folder that can be read and replayed."""
    assert run(tmp_path, fake_build, small) == 0
    table = capsys.readouterr().out
    assert "credit2" in table and "master + second" in table and "small: pass, 2 cases" in table
    folder = only_run(tmp_path)
    assert {p.name for p in folder.iterdir()} == {
        "result.json",
        "scenario.toml",
        "table.txt",
        *("report.html", "report.md", "plots"),
        *("credit2-1p-patched", "credit2-1p-stock"),
        *("credit2-2p-patched", "credit2-2p-stock"),
    }
    case_files = {p.name for p in (folder / "credit2-1p-patched").iterdir()}
    wanted = {"records.jsonl", "serial.log", "scenario.json", "command.sh", "boot.jsonl"}
    assert wanted <= case_files
    result = json.loads((folder / "result.json").read_text())
    assert result["verdict"] == "pass"
    case = result["cases"][0]
    assert case["dims"]["pcpus"] == 1 and case["verdict"] == "pass"
    assert {"patched.xen", "checkpoint", "scenario", "command"} <= set(case["context"])
    assert case["context"]["hello"]["xen_version"] == "4.17.5"
    check = next(c for c in case["checks"] if c["clause"] == "E1.cap")
    assert {"expected", "measured", "tolerance", "reason", "verdict"} <= set(check)
    assert len(case["series"]) == 6
    assert case["reference"][0]["phase"] == "alone"
    nothing_half_made(tmp_path)


def test_second_run_reuses(
    tmp_path: Path, fake_build: Build, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Checkpoints, calibrations and cases are made once."""
    assert run(tmp_path, fake_build, small) == 0
    first = capsys.readouterr()
    assert "checkpoint …" in first.err and "known" not in first.err
    assert run(tmp_path, fake_build, small) == 0
    again = capsys.readouterr()
    assert "checkpoint" not in again.err and "calibration" not in again.err
    assert "credit2-1p … pass, known (" in again.err
    assert again.out.split("small: ")[0] == first.out.split("small: ")[0]
    one, two = sorted((tmp_path / "results").iterdir())
    for file in ("records.jsonl", "serial.log", "scenario.json", "command.sh", "boot.jsonl"):
        place = Path("credit2-1p-patched") / file
        assert (one / place).read_bytes() == (two / place).read_bytes()


def test_other_inputs_are_measured(tmp_path: Path, fake_build: Build, small: Path) -> None:
    """A case with one input changed is another case."""
    words = ("--pcpus", "1", "--no-reference")
    assert run(tmp_path, fake_build, small, *words) == 0
    small.write_text(SMALL.replace("cap = 10", "cap = 20"))
    assert run(tmp_path, fake_build, small, *words) == 0
    runs = [json.loads(p.read_text()) for p in (tmp_path / "results").glob("*/result.json")]
    assert [case["timing"]["cached"] for found in runs for case in found["cases"]] == [False, False]


def test_no_cache(
    tmp_path: Path,
    fake_build: Build,
    small: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is known is measured again, and must be the same to the byte."""
    words = ("--pcpus", "1", "--no-reference")
    assert run(tmp_path, fake_build, small, *words) == 0
    assert run(tmp_path, fake_build, small, *words, "--no-cache") == 0
    assert "known" not in capsys.readouterr().err
    monkeypatch.setenv("FAKE", "half-share")
    assert run(tmp_path, fake_build, small, *words) == 0
    assert run(tmp_path, fake_build, small, *words, "--no-cache") == 2
    said = capsys.readouterr().out
    assert "the same inputs gave other records before" in said and "differs:" in said
    monkeypatch.setenv("NO_CACHE", "1")
    assert run(tmp_path, fake_build, small, *words) == 2


def test_cold(tmp_path: Path, fake_build: Build, small: Path) -> None:
    """A cold run restores nothing."""
    assert run(tmp_path, fake_build, small, "--cold", "--pcpus", "1") == 0
    command = (only_run(tmp_path) / "credit2-1p-patched" / "command.sh").read_text()
    assert "-incoming" not in command


def test_script_can_be_pasted(tmp_path: Path, fake_build: Build, small: Path) -> None:
    """command.sh, run in its folder, makes the same records again."""
    assert run(tmp_path, fake_build, small, "--pcpus", "1") == 0
    folder = only_run(tmp_path) / "credit2-1p-patched"
    before = (folder / "records.jsonl").read_bytes()
    (folder / "records.jsonl").unlink()
    subprocess.run(["sh", "command.sh"], cwd=folder, check=False)
    assert (folder / "records.jsonl").read_bytes() == before


BAD = [
    ("panic", 2, "crash", "Panic on CPU 0", "Assertion 'false' failed"),
    ("kernel-panic", 2, "crash", "Kernel panic - not syncing", "Attempted to kill init"),
    ("guest-crash", 2, "crash", "Domain 1 (vcpu#0) crashed", "cpu#2"),
    ("exit", 2, "crash", "QEMU exited with 7: fake: no such device", ""),
    ("silent", 2, "crash", "QEMU exited with 0 without the controller", ""),
    ("half", 2, "crash", "QEMU exited with 0", ""),
    ("gave-up", 2, "error", "no memory for master (ENOMEM)", ""),
    ("no-groups", 2, "error", "no scheduling domains: join answered ENOSYS", ""),
    ("half-share", 1, "fail", "E1.cap in joined, whole: master + second got 5.000 %", ""),
]


@pytest.mark.parametrize(("how", "status", "verdict", "reason", "serial"), BAD)
def test_bad_subject(
    how: str,
    status: int,
    verdict: str,
    reason: str,
    serial: str,
    tmp_path: Path,
    fake_build: Build,
    small: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What goes wrong in the machine is a verdict with its reason, and the serial log's place."""
    assert lab(tmp_path, fake_build, "calibrate") == 0
    capsys.readouterr()
    monkeypatch.setenv("FAKE", how)
    assert run(tmp_path, fake_build, small, "--pcpus", "1", "--no-reference") == status
    said = capsys.readouterr().out
    assert reason in said and serial in said
    folder = only_run(tmp_path)
    result = json.loads((folder / "result.json").read_text())
    assert result["verdict"] == verdict and reason in result["cases"][0]["reason"]
    if status == 2:
        assert f"serial log: {folder}/credit2-1p-patched/serial.log" in said
    nothing_half_made(tmp_path)


def test_halt_after_the_end(
    tmp_path: Path, fake_build: Build, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU takes a moment to end, in which dom0 halts: that is no crash."""
    monkeypatch.setenv("FAKE", "halt")
    assert run(tmp_path, fake_build, small, "--pcpus", "1") == 0


def test_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_build: Build) -> None:
    """A machine that shows no sign of life is given up, and gone."""
    monkeypatch.setenv("FAKE", "hang")
    (tmp_path / qemu.SCENARIO_FILE).write_text("{}")
    artifacts = fake_build("4.17", "patched")
    command = qemu.command(qemu.Machine("credit2", 1, "cores", 5), artifacts)
    with qemu.Process(command, tmp_path) as process:
        outcome = qemu.Watcher(tmp_path, 0.5).wait(process)
        assert process.poll() is not None
    assert outcome.status is None and "hung: nothing new" in outcome.reason
    assert 0.5 <= outcome.wall_s < 3


def test_paths_are_no_input(tmp_path: Path, fake_build: Build) -> None:
    """QEMU gives the machine the names of what boots: they say nothing of where it is."""
    built = fake_build("4.17", "patched")
    command = qemu.command(qemu.Machine("credit2", 1, "cores", 5), built)
    seen = [command.argv[command.argv.index(o) + 1] for o in ("-kernel", "-initrd", "-append")]
    assert not any("/" in word for word in seen), seen
    with qemu.Process(command, tmp_path):
        assert {p.readlink() for p in map(tmp_path.joinpath, command.links)} == {built.xen}
    assert not any(tmp_path.joinpath(name).is_symlink() for name in command.links)
    assert command.script().index("ln -s") < command.script().index("-kernel")


def test_slow_is_not_hung(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_build: Build
) -> None:
    """The watchdog counts from the last sign of life."""
    monkeypatch.setenv("FAKE", "slow")
    timeline = [{"t_ns": 0, "op": "sample", "label": str(k)} for k in range(5)]
    scenario = {"name": "x", "domains": [], "timeline": [*timeline, {"t_ns": 0, "op": "end"}]}
    (tmp_path / qemu.SCENARIO_FILE).write_text(json.dumps(scenario))
    command = qemu.command(qemu.Machine("credit2", 1, "cores", 5), fake_build("4.17", "patched"))
    with qemu.Process(command, tmp_path) as process:
        outcome = qemu.Watcher(tmp_path, 0.7).wait(process)
    assert outcome.status == qemu.STATUS_ENDED and outcome.wall_s > 1


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("boot-panic", "did not boot to the controller: Panic on CPU 0"),
        ("boot-hang", "did not boot to the controller: hung"),
        ("boot-exit", "did not boot to the controller: QEMU exited with 7"),
        ("boot-no-space", "No space left on device"),
        ("boot-no-breakpoint", "refuses a breakpoint: E01"),
    ],
)
def test_no_checkpoint(
    how: str,
    words: str,
    tmp_path: Path,
    fake_build: Build,
    small: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A boot that fails is an error with its log, and leaves no checkpoint."""
    monkeypatch.setenv("FAKE", how)
    assert run(tmp_path, fake_build, small) == 2
    said = capsys.readouterr().err
    assert words in said and "remedy:" in said
    if how == "boot-panic":
        assert f"log: {tmp_path}/build/logs/checkpoint-" in said and "Assertion 'false'" in said
    assert not list((tmp_path / "build" / "store" / "checkpoint").glob("[!.]*"))
    assert not (tmp_path / "results").exists() or not list((tmp_path / "results").iterdir())
    nothing_half_made(tmp_path)


def test_failed_calibration_refuses(
    tmp_path: Path,
    fake_build: Build,
    small: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A wrong share in the calibration: nothing is measured, now or later, and the lab says why."""
    monkeypatch.setenv("FAKE", "half-share")
    assert run(tmp_path, fake_build, small) == 2
    assert "refusing to measure" in capsys.readouterr().err
    monkeypatch.delenv("FAKE")
    assert run(tmp_path, fake_build, small) == 2
    said = capsys.readouterr().err
    assert "refusing to measure" in said and "quarter-a got 12.5" in said
    assert not (tmp_path / "results").exists()
    assert lab(tmp_path, fake_build, "calibrate") == 2


def test_wrong_expectation_refuses(
    tmp_path: Path, fake_build: Build, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same when the known answer is forced to be another one."""
    wrong = tmp_path / "calibration.toml"
    wrong.write_text(cli.CALIBRATION.read_text().replace("share = 25", "share = 30"))
    assert run(tmp_path, fake_build, small) == 0
    monkeypatch.setattr(cli, "CALIBRATION", wrong)
    assert run(tmp_path, fake_build, small) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "nothing"], "no scenario nothing"),
        (["run", "ten_percent", "--pcpus", "17"], "out of range"),
        (["run", "ten_percent", "--scheduler", "null"], "not known"),
    ],
)
def test_bad_input(
    words: list[str],
    said: str,
    fake_build: Build,
    own_build_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Bad input ends with status 2 before anything is built."""
    assert cli.main(words, fake_build) == 2
    error = capsys.readouterr().err
    assert said in error and "remedy:" in error
    assert not own_build_folder.exists()


def test_dry(
    tmp_path: Path,
    fake_build: Build,
    small: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """DRY=1 prints the commands and makes nothing."""
    monkeypatch.setenv("DRY", "1")
    assert run(tmp_path, fake_build, small) == 0
    printed = capsys.readouterr().out
    assert printed.count("fake_qemu.py") >= 6 and "-incoming" in printed
    assert not (tmp_path / "results").exists()
    assert not list(tmp_path.glob("build/store/*/[!.]*"))


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    """Each scenario with its cases."""
    assert cli.main(["list"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^ten_percent +\d+ +\d+ +\d+  a capped", said, re.M)
    assert re.search(r"^cases +\d+ +\d+ +\d+$", said, re.M)


def test_clean(tmp_path: Path, fake_build: Build, small: Path) -> None:
    """Clean removes what was kept and what a crash left; results stay."""
    assert run(tmp_path, fake_build, small) == 0
    stale = tmp_path / "results" / ".tmp-999999999-20260101T000000Z-x"
    stale.mkdir()
    assert cli.main(["clean", "--out", str(tmp_path / "results")], fake_build) == 0
    assert not list(tmp_path.glob("build/store/*/[!.]*")) and not stale.exists()
    only_run(tmp_path)


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {harness!r})
from schedlab import cli
from tests.fakes import fake_artifacts
sys.exit(cli.main(sys.argv[1:], lambda xen, variant: fake_artifacts(Path({folder!r}), variant)))
"""


def driver(tmp_path: Path) -> list[str]:
    """The lab with fake builds as a process of its own."""
    text = DRIVER.format(harness=str(HARNESS), folder=str(tmp_path))
    (tmp_path / "driver.py").write_text(text)
    return [sys.executable, str(tmp_path / "driver.py")]


def pids(file: Path) -> list[int]:
    """The fake QEMUs that were started."""
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted(sign: signal.Signals, tmp_path: Path, small: Path) -> None:
    """Ctrl-C, termination and even a kill leave no QEMU; the first two nothing half-written."""
    base = [*driver(tmp_path), "run", str(small), "--out", str(tmp_path / "results")]
    assert subprocess.run(base, check=False, capture_output=True).returncode == 0
    pid_file = tmp_path / "pids"
    env = {**os.environ, "FAKE": "hang", "FAKE_PID": str(pid_file)}
    base += ["--no-cache"]
    process = subprocess.Popen(base, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while len(pids(pid_file)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    started = pids(pid_file)
    assert len(started) == 2 and all(alive(pid) for pid in started)
    process.send_signal(sign)
    _, said = process.communicate(timeout=20)
    deadline = time.monotonic() + 5
    while any(alive(pid) for pid in started) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in started)
    if sign != signal.SIGKILL:
        assert process.returncode == cli.EXIT_INTERRUPTED and b"interrupted" in said
        nothing_half_made(tmp_path)
        only_run(tmp_path)


def test_two_at_once(tmp_path: Path, small: Path) -> None:
    """Two labs in one tree: one makes what both need, the other waits, both end well."""
    command = [*driver(tmp_path), "run", str(small), "--out", str(tmp_path / "results")]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert len(list((tmp_path / "results").iterdir())) == 2
    nothing_half_made(tmp_path)
