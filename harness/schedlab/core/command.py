# SPDX-License-Identifier: GPL-2.0-only
"""Running programs: logged, printable instead of run (DRY=1), and never left behind."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from schedlab.core.errors import LabError

_GRACE_S = 5.0


def dry_run() -> bool:
    """True when commands are to be printed instead of run."""
    return os.environ.get("DRY", "") not in ("", "0")


def shell_line(
    argv: Sequence[str | Path], cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> str:
    """The command as it can be pasted into a shell."""
    words = [f"{name}={shlex.quote(value)}" for name, value in (env or {}).items()]
    words.append(shlex.join(str(word) for word in argv))
    line = " ".join(words)
    return f"(cd {shlex.quote(str(cwd))} && {line})" if cwd is not None else line


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    label: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; with DRY=1 print it and pretend success.

    env: added to this process's environment.  log: file the output is appended to; without it,
    output is captured and returned.  label: how an error calls the command.  Raises LabError when
    the program is missing or fails.  An interrupt ends the program's whole process group before it
    goes on up.
    """
    if dry_run():
        print(shell_line(argv, cwd, env), flush=True)
        return subprocess.CompletedProcess([str(word) for word in argv], 0, "", "")
    return _run(argv, cwd, env, log, label)


def query(
    argv: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> str:
    """The output of a program that only looks: runs under DRY=1 too.  Raises as run() does."""
    return _run(argv, cwd, env, None, None).stdout


def _run(
    argv: Sequence[str | Path],
    cwd: Path | None,
    env: Mapping[str, str] | None,
    log: Path | None,
    label: str | None,
) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in argv]
    name = label or Path(words[0]).name
    output: int | None = subprocess.PIPE
    log_file = None
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log_file = log.open("a")
        log_file.write(f"$ {shell_line(words, cwd, env)}\n")
        log_file.flush()
        output = log_file.fileno()
    try:
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if log is not None else subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except (FileNotFoundError, PermissionError) as error:
        # A folder of PATH that may not be read hides that a program is nowhere.
        denied = isinstance(error, PermissionError)
        if denied and ("/" in words[0] or shutil.which(words[0]) is not None):
            raise
        missing = error.filename or words[0]
        raise LabError(f"{name}: {missing} is not there", "`make setup` installs it") from error
    finally:
        if log_file is not None:
            log_file.close()
    try:
        stdout, stderr = process.communicate()
    except BaseException:
        _end_group(process)
        raise
    if process.returncode != 0:
        why = (
            f"signal {-process.returncode}"
            if process.returncode < 0
            else f"exit status {process.returncode}"
        )
        said = "\n".join((stderr or stdout or "").strip().splitlines()[-15:])
        raise LabError(f"{name} failed ({why})" + (f":\n{said}" if said else ""), log=log)
    return subprocess.CompletedProcess(words, 0, stdout or "", stderr or "")


def _end_group(process: subprocess.Popen[str]) -> None:
    """End a program and all it started: politely, then not."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def interrupt_on_sigterm() -> None:
    """Let SIGTERM end this process as Ctrl-C does, so that what it started ends too."""

    def handler(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, handler)
