# SPDX-License-Identifier: GPL-2.0-only
"""Running programs: logs, errors, DRY=1, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from schedlab.core.command import query, run
from schedlab.core.errors import LabError

HARNESS = Path(__file__).resolve().parents[1]


def test_output_goes_to_the_log(tmp_path: Path) -> None:
    """The log has the command, as it can be pasted, and both outputs."""
    log = tmp_path / "logs" / "step.log"
    run(["sh", "-c", "echo out; echo err >&2"], cwd=tmp_path, env={"A": "b c"}, log=log)
    lines = log.read_text().splitlines()
    assert lines[0] == f"$ (cd {tmp_path} && A='b c' sh -c 'echo out; echo err >&2')"
    assert sorted(lines[1:]) == ["err", "out"]


def test_failure_names_culprit_and_log(tmp_path: Path) -> None:
    """The error has the label, the exit status, and renders the log's last lines."""
    log = tmp_path / "step.log"
    with pytest.raises(LabError, match=r"building it failed \(exit status 3\)") as caught:
        run(["sh", "-c", "echo the reason; exit 3"], log=log, label="building it")
    assert caught.value.log == log
    assert caught.value.render().splitlines()[-1] == "  | the reason"


def test_failure_without_log_says_what_was_said() -> None:
    """Captured output is part of the error."""
    with pytest.raises(LabError, match="the reason"):
        query(["sh", "-c", "echo the reason >&2; exit 1"])


def test_missing_program() -> None:
    """A program that is not installed is named, with the remedy."""
    with pytest.raises(LabError, match="no-such-program is not there") as caught:
        run(["no-such-program"])
    assert "make setup" in caught.value.remedy


def test_missing_beside_a_folder_that_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PATH may have folders that this user may not read; a file that may not be run is another."""

    def refuse(*words: object, **more: object) -> None:
        raise PermissionError(13, "Permission denied", "no-such-program")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(LabError, match="no-such-program is not there"):
        run(["no-such-program"])
    with pytest.raises(PermissionError):
        run([tmp_path / "no-such-program"])


def test_dry_only_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """DRY=1: a line for a shell, and nothing happens, not even a log."""
    monkeypatch.setenv("DRY", "1")
    run(["touch", tmp_path / "a file"], log=tmp_path / "log")
    assert capsys.readouterr().out == f"touch '{tmp_path}/a file'\n"
    assert list(tmp_path.iterdir()) == []
    assert query(["echo", "asked"]) == "asked\n"


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_whole_group(tmp_path: Path, sign: signal.Signals) -> None:
    """Ctrl-C (or SIGTERM) while a program runs ends the program and what it started."""
    script = (
        "from schedlab.core.command import interrupt_on_sigterm, run\n"
        "interrupt_on_sigterm()\n"
        f"run(['sh', '-c', 'sleep 300 & echo $! > {tmp_path}/pid.new;"
        f" mv {tmp_path}/pid.new {tmp_path}/pid; wait'])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(HARNESS)}
    caller = subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stderr=subprocess.DEVNULL
    )
    deadline_s = time.monotonic() + 20
    while not (tmp_path / "pid").exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    sleeper = int((tmp_path / "pid").read_text())
    caller.send_signal(sign)
    assert caller.wait(timeout=20) != 0
    while _runs(sleeper):
        assert time.monotonic() < deadline_s, "a stray process was left"
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
